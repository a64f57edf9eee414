"""What can be done to a data set and the tables around it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from children import CANARY

from strangers.files import link, replaced, written
from strangers.trials import HONEST, Trick

_ROWS = (
    "records.jsonl",
    "others.jsonl",
    "answers.jsonl",
    "more.jsonl",
    "questions.jsonl",
    "asked.jsonl",
    "verdicts.jsonl",
)
_ROWS += ("texts.jsonl", "held.jsonl")
_TEXTS = ("question", "answer", "caption", "text", "reason", "source")


def write_rows(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_changed(
    change: Callable[[dict[str, Any]], object], only: int = 0
) -> Callable[[Path], None]:
    """Change a row of every table of JSON lines; values may be what JSON does not have."""

    def play(folder: Path) -> None:
        for name in _ROWS:
            rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
            change(rows[only])
            write_rows(folder / name, rows)

    return play


def _says(text: str) -> Callable[[Path], None]:
    """A text wherever a row has one, and in the tables that people make."""

    def change(row: dict[str, Any]) -> None:
        row |= {name: text for name in _TEXTS if name in row}
        if "tags" in row:
            row["tags"] = {**row["tags"], "choice_a": text, "organ": text}
        if "queue" in row:
            row["queue"] = [text] * 3

    def play(folder: Path) -> None:
        for only in (0, 1):
            rows_changed(change, only)(folder)
        result = json.loads((folder / "result.json").read_text())
        _put_texts(result, text)
        (folder / "result.json").write_text(json.dumps(result))
        plain = text.encode("utf-8", "replace").decode().replace('"', '""')
        with (folder / "labels.csv").open("a", newline="") as file:
            file.write(f'2.png,"{plain}"\n')
        with (folder / "table.csv").open("a", newline="") as file:
            file.write(f'0.png,"{plain}","{plain}"\n')

    return play


def _put_texts(value: Any, text: str) -> None:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            _put_texts(inner, text)
        elif isinstance(inner, str):
            value[key] = text


def _field(name: str, value: Any) -> Callable[[Path], None]:
    return rows_changed(lambda row: row.update({name: value}) if name in row else None)


def _all_fields(value: Any) -> Callable[[Path], None]:
    return rows_changed(lambda row: row.update(dict.fromkeys(row, value)))


def _image(name: str) -> Callable[[Path], None]:
    """Every table names this as a picture."""

    def play(folder: Path) -> None:
        _field("image", name)(folder)
        plain = name.encode("utf-8", "replace").decode()
        for table in ("labels.csv", "table.csv"):
            text = (folder / table).read_text()
            (folder / table).write_text(text.replace("0.png", plain))

    return play


def _picture(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A picture that every table names, and the folder of pictures has, is something else."""
    return replaced("0.png", make)


def _bytes(make: Callable[[], bytes]) -> Callable[[Path], None]:
    return _picture(lambda path: path.write_bytes(make()))


def _added(line: bytes) -> Callable[[Path], None]:
    """One more line in every table of JSON lines."""

    def play(folder: Path) -> None:
        for name in _ROWS:
            with (folder / name).open("ab") as file:
                file.write(line + b"\n")

    return play


def _tables(content: str | bytes) -> Callable[[Path], None]:
    """All tables are this."""

    def play(folder: Path) -> None:
        names = (*_ROWS, "boxes.json", "published.json", "labels.csv", "table.csv", "result.json")
        for name in names:
            written(name, content)(folder)

    return play


def _linked(target: str) -> Callable[[Path], None]:
    def play(folder: Path) -> None:
        for name in (*_ROWS, "boxes.json", "labels.csv", "result.json"):
            replaced(name, link(target))(folder)

    return play


def _twice(folder: Path) -> None:
    for name in _ROWS:
        text = (folder / name).read_text()
        (folder / name).write_text(text * 2)


def _long_line(folder: Path) -> None:
    row = json.dumps(
        {"id": "long", "image": "0.png", "question": "q", "caption": "x" * 100_000_000}
    )
    for name in ("records.jsonl", "answers.jsonl", "texts.jsonl", "asked.jsonl"):
        with (folder / name).open("a") as file:
            file.write(row + "\n")


def _pickled(folder: Path) -> None:
    _tables(b"cos\nsystem\n(S'touch " + str(folder.parent / CANARY).encode() + b"'\ntR.")(folder)


def _moves(folder: Path) -> None:
    """What is to be moved back was never here, or is not named by a path inside."""
    size = (folder / "moved/7.png").stat()
    where = str(folder.parent / "outside/secret.json")
    rows = [{"from": where, "to": "../../outside/secret.png", "bytes": 1, "mtime_ns": 1},
            {"from": where, "to": "7.png", "bytes": size.st_size, "mtime_ns": size.st_mtime_ns},
            {"from": "x" * 5000, "to": "\x1b[31m", "bytes": 10**30, "mtime_ns": -1}]  # fmt: skip
    write_rows(folder / "moved/moves.jsonl", rows)


def _honest(folder: Path) -> None:
    """Moves whose old places are in the set."""
    status = (folder / "moved/7.png").stat()
    row = {"from": str(folder / "7.png"), "to": "7.png"}
    row |= {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    write_rows(folder / "moved/moves.jsonl", [row])


def _scans() -> bytes:
    from test_bombs import jpeg_of_scans

    return jpeg_of_scans(4000, 512)


def _deflated() -> bytes:
    from test_bombs import deflated

    return deflated(5000, 400 << 20)


def _wide() -> bytes:
    from PIL import Image
    from valid_files import encoded

    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(data)


def _volume() -> bytes:
    import gzip

    import numpy as np
    from medical_files import nifti

    head = bytearray(nifti(np.zeros((8, 8, 8), np.int16)))
    head[40:56] = b"".join(n.to_bytes(2, "little") for n in (3, 1200, 1200, 1200, 1, 1, 1, 1))
    return gzip.compress(bytes(head) + bytes(300 << 20), 1)


_SAID = {
    "half a character": "\ud800 it",
    "what a terminal obeys": "\x1b[31m \x07\x9b2J \u202eit",
    "markup": "[/b] CT [contrast] [bold]{x}",
    "formulas": "=cmd|'/c calc'!A0",
    "more formulas": "@SUM(1+1)\t=1",
    "formats": "{question:>300000000}{caption}{0.__class__} %s%n",
    "templates": "{{ ''.__class__ }}{% for a in range(10**9) %}{% endfor %}",
    "pages": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "line ends": "a\r\nb\u2028c\x85d\x0be\x00f",
    "marks of models": "<image><s></s><pad><|im_end|>",
    "100,000 dots": "." * 100_000 + "b",
    "100,000 blanks": "a" + " " * 100_000 + "b",
    "100,000 brackets in a text": "(" * 100_000,
    "100,000 words": "a " * 100_000 + "b",
    "letters that grow": "\ufdfa" * 5000,
    "an answer that goes on": "the answer is " * 8000,
    "choices that go on": "A) " * 30_000,
}
_FIELDS = {
    "an answer of NaN": _field("answer", float("nan")),
    "numbers of infinity": _all_fields(float("inf")),
    "a confidence of NaN": _field("confidence", float("nan")),
    "a confidence of a thousand": _field("confidence", 1e3),
    "a score without bounds": _field("score", 1e308),
    "boxes of NaN": _field("boxes", [[float("nan"), 0, 1, 1]]),
    "a hundred thousand boxes": _field("boxes", [[0, 0, 1, 1]] * 100_000),
    "a million texts in a queue": _field("queue", ["a text"] * 300_000),
    "lists everywhere": _all_fields([[]]),
    "objects everywhere": _all_fields({"a": {}}),
    "nothing everywhere": _all_fields(None),
    "numbers everywhere": _all_fields(10**40),
    "ids that are paths": _field("id", "../../outside/secret"),
    "ids that are absolute": _field("id", "/tmp/x"),
    "an id of a million": _field("id", "x" * 1_000_000),
    "fields of their own": rows_changed(lambda row: row.update({"__class__": 1, "\x1b[31m": "x"})),
    "tags without end": rows_changed(lambda row: row.update(tags={f"t{n}": "x" for n in range(50_000)}) if "image" in row else None),  # noqa: E501
    "a split of their own": _field("split", "\x1b[31m"),
}  # fmt: skip
_IMAGES = {
    "an absolute picture": "/etc/passwd",
    "a picture above": "../outside/secret.png",
    "a picture far above": "a/../../outside/secret.png",
    "a picture of the network": "http://127.0.0.1:1/x.png",
    "a picture with a null": "0.png\x00.txt",
    "a picture of 5,000 letters": "x" * 5000 + ".png",
    "a picture that a terminal obeys": "\x1b[31m\u202e.png",
    "a picture that is the folder": ".",
    "a picture below a file": "1.png/x.png",
    "a picture of no encoding": "\udcff.png",
}
_LINES = {
    "100,000 brackets": b"[" * 100_000,
    "900 brackets": b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}",
    "digits without end": b'{"id": ' + b"9" * 100_000 + b"}",
    "a field twice": b'{"id": "t", "id": "u", "image": "0.png", "question": "q"}',
    "bytes of no text": b'{"id": "\xff\xfe"}',
    "half a line": b'{"id": "h", "question": "q',
    "a line of nulls": bytes(1000),
}
_TABLES: dict[str, str | bytes] = {
    "nothing": b"",
    "UTF-16": '{"id": "1", "image": "0.png", "question": "q"}\n'.encode("utf-16"),
    "a gzip": b"\x1f\x8b\x08" + bytes(50),
    "an array": b"[1, 2, {}]",
    "commas": b"," * 100_000,
    "quotes": b'"' * 99_999,
}
_PICTURES: dict[str, Callable[[Path], None]] = {
    "a link outside": _picture(link("../outside/secret.png")),
    "a link to a device": _picture(link("/dev/zero")),
    "a link to itself": _picture(link("0.png")),
    "a pipe": _picture(os.mkfifo),
    "a folder as picture": _picture(Path.mkdir),
    "4,000 scans": _bytes(_scans),
    "a side of 60,000": _bytes(_wide),
    "a deflated bomb": _bytes(_deflated),
    "a volume that inflates": _bytes(_volume),
    "half a picture": _picture(lambda path: path.write_bytes(path.with_name("1.png").read_bytes()[:99])),
    "a page as picture": _bytes(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
    "a script as picture": _bytes(lambda: b"%!PS\n(" + str(CANARY).encode() + b") (w) file\n"),
}  # fmt: skip


def tricks() -> Iterator[Trick]:
    plays: dict[str, Callable[[Path], object]] = {
        **{f"says {name}": _says(text) for name, text in _SAID.items()},
        **_FIELDS,
        **{name: _image(image) for name, image in _IMAGES.items()},
        **{f"a line of {name}": _added(line) for name, line in _LINES.items()},
        **{f"tables of {name}": _tables(text) for name, text in _TABLES.items()},
        **_PICTURES,
        "everything twice": _twice,
        "a line of 100 MB": _long_line,
        "tables that are pickles": _pickled,
        "tables on a device": _linked("/dev/zero"),
        "tables that are themselves": _linked("records.jsonl"),
        "moves to other places": _moves,
    }
    yield Trick(HONEST, _honest)
    yield from (Trick(name, play) for name, play in plays.items())
