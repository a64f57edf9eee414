"""A data set, and the tables around it: texts, numbers, pictures and paths that no honest one has."""

from __future__ import annotations

import contextlib
import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tiny_models
from children import CANARY
from strangers.files import link, replaced, written
from strangers.trials import CPU, HONEST, Command, Place, Stranger, Trick

_ROWS = ("records.jsonl", "others.jsonl", "answers.jsonl", "more.jsonl", "questions.jsonl", "verdicts.jsonl", "texts.jsonl")  # fmt: skip
_TEXTS = ("question", "answer", "caption", "text", "reason", "source")


def prepare(folder: Path) -> dict[str, Path]:
    """Records of all splits with captions and choices, and every table that a command reads beside them."""
    from biod2c_cli import app
    from biod2c_core.model.checkpoints.folder import save_checkpoint

    llama = tiny_models.save_language_model(folder / "llama")
    save_checkpoint(folder / "model", *tiny_models.build(llama))
    data = tiny_models.write_data(folder / "set", 4, images=3)
    choices = {"choice_a": "left lung", "choice_b": "right lung", "answer_label": "A"}
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows = [{**row, "caption": "A film of a lung.", "source": "theirs", "split": ("train", "test")[n % 2]}
            for n, row in enumerate(rows)]  # fmt: skip
    rows[1] |= {"answer": "left lung", "tags": choices}
    _write(folder / "set/records.jsonl", rows)
    _write(folder / "set/others.jsonl", rows[:3])
    answers = [{"id": row["id"], "answer": "left lung", "confidence": 0.5} for row in rows]
    for name in ("answers.jsonl", "more.jsonl"):
        _write(folder / "set" / name, answers)
    _write(folder / "set/questions.jsonl", [{"question": "is it?", "id": n} for n in range(2)])
    verdicts = [{"id": row["id"], "score": n, "passes": [n], "reason": "fine", "question": "q"}
                for n, row in enumerate(rows)]  # fmt: skip
    _write(folder / "set/verdicts.jsonl", verdicts)
    _write(folder / "set/texts.jsonl", [{"text": "The lung is clear."}, {"name": "mass"}])
    (folder / "set/boxes.json").write_text("[[1, 1, 9, 9]]")
    (folder / "set/published.json").write_text('{"multimedeval": {}}')
    labels = [f"{n % 3}.png,{'polluted' if n % 3 else 'clean'}" for n in range(3)]
    (folder / "set/labels.csv").write_text("\n".join(["image,label", *labels]) + "\n")
    (folder / "set/table.csv").write_text("image,question,answer\n0.png,is it?,yes\n1.png,what?,CT\n")
    score = ["evaluate", data, "--split", "all", "--predictions", folder / "set/answers.jsonl"]
    app.app([str(each) for each in (*score, "-o", folder / "run")], standalone_mode=False)
    (folder / "set/result.json").write_text((folder / "run/result.json").read_text())
    _moved(folder)
    return {"set": folder / "set", "model": folder / "model", "picture": folder / "set/0.png"}


def _moved(folder: Path) -> None:
    """A folder that images were moved to, which came from one that is still there."""
    place = folder / "set/moved"
    place.mkdir()
    tiny_models.make_image(7).save(place / "7.png")


def _write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_changed(change: Callable[[dict[str, Any]], object], only: int = 0) -> Callable[[Path], None]:
    """Change a row of every table of JSON lines; values may be what JSON does not have."""

    def play(folder: Path) -> None:
        for name in _ROWS:
            rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
            change(rows[only])
            _write(folder / name, rows)

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
    row = json.dumps({"id": "long", "image": "0.png", "question": "q", "caption": "x" * 100_000_000})
    for name in ("records.jsonl", "answers.jsonl", "texts.jsonl", "questions.jsonl"):
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
    _write(folder / "moved/moves.jsonl", rows)


def _honest(folder: Path) -> None:
    """Moves whose old places are in the set."""
    status = (folder / "moved/7.png").stat()
    row = {"from": str(folder / "7.png"), "to": "7.png", "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}  # fmt: skip
    _write(folder / "moved/moves.jsonl", [row])


def _scans() -> bytes:
    from test_bombs import jpeg_of_scans

    return jpeg_of_scans(4000, 512)


def _deflated() -> bytes:
    from test_bombs import deflated

    return deflated(5000, 400 << 20)


def _wide() -> bytes:
    from valid_files import encoded
    from PIL import Image

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


def _commands() -> tuple[Command, ...]:
    def command(reads: str, *words: object, name: str = "", **more: Any) -> Command:
        """A command; words that are pairs are a name in the stranger's (T), an output (O), a model (M)."""
        parameters = tuple(each.strip() for each in reads.split(";"))

        def arguments(place: Place) -> list[object]:
            known = {"T": place.theirs, "O": place.out, "M": place.examples["model"]}
            return [known[word[0]] / word[1] if isinstance(word, tuple) else word for word in words]

        return Command(name or parameters[0].rpartition(".")[0], parameters, arguments, "set", **more)

    rows, others, answers = ("T", "records.jsonl"), ("T", "others.jsonl"), ("T", "answers.jsonl")
    out, run, picture = ("O", "out.jsonl"), ("O", "run"), ("T", "0.png")
    model, everything = ("-m", ("M", ""), *CPU), ("--split", "all")
    run_evaluate = ("evaluate", rows, *everything)
    scored = (*run_evaluate, "--predictions", answers)
    pages = ("--leaderboard", ("O", "p.html"), "--published", ("T", "published.json"))
    steps = ("--max-steps", 1, "--batch-size", 2, "--validation", others)
    moved = ("--list", ("O", "clean.jsonl"), "--move", ("O", "moved"))
    label = {"until": "http://", "visit": _label}
    return (
        command("data import.names", "data", "import", ("T", "table.csv"), "-o", out),
        command("data import.names", "data", "import", "jsonl", rows, "-o", out, name="data import jsonl"),
        command("data import.names", "data", "import", "image-folder", ("T", ""), "-o", out,
                name="data import image-folder"),
        command("data validate.data", "data", "validate", rows),
        command("data stats.data", "data", "stats", rows),
        command("data split.data", "data", "split", rows, "-o", out),
        command("data mix.parts", "data", "mix", rows, others, "-o", out),
        command("data queue.data; data queue.knowledge", "data", "queue", rows, "-o", out,
                "--knowledge", ("T", "texts.jsonl")),
        command("data scrub-text.data", "data", "scrub-text", rows, ("O", "copy")),
        command("data shuffle-choices.data", "data", "shuffle-choices", rows, "-o", out),
        command("data export-vlmevalkit.data", "data", "export-vlmevalkit", rows, "-o", ("O", "t.tsv"),
                "--split", "train"),
        command("evaluate run.data; evaluate run.predictions; evaluate run.train", *scored, "-o", run,
                "--train", others, name="evaluate --predictions"),
        command("evaluate run.data", *scored, "--profile", "all", name="evaluate --profile all"),
        command("evaluate run.data", *run_evaluate, *model, "-o", run, name="evaluate"),
        command("evaluate compare.data; evaluate compare.first; evaluate compare.second",
                "evaluate", "compare", rows, answers, ("T", "more.jsonl"), *everything),
        command("evaluate agree.first; evaluate agree.second", "evaluate", "agree",
                ("T", "verdicts.jsonl"), ("T", "verdicts.jsonl")),
        command("evaluate table.results", "evaluate", "table", ("T", "result.json")),
        command("evaluate table.published", "evaluate", "table", ("T", "result.json"), *pages,
                name="evaluate table --leaderboard"),
        command("export.result", "export", ("O", "model"), "-m", ("M", ""), "--result", ("T", "result.json"),
                name="export --result"),
        command("push.result", "push", ("M", ""), "them/theirs", "--card-only", "--result",
                ("T", "result.json"), name="push --result"),
        command("gen-qa.records", "gen-qa", rows, "-o", out, "--dry-run"),
        command("ask.image; ask.file", "ask", picture, "--questions", ("T", "questions.jsonl"), *model),
        command("ask.image; ask.rest", "ask", ("T", ""), picture, "-q", "is it?", "-o", ("O", "o.csv"), *model,
                name="ask FOLDER"),
        command("attn-map.image; attn-map.boxes", "attn-map", picture, "is it?", "-o", ("O", "m.png"),
                "--boxes", ("T", "boxes.json"), *model),
        command("calibrate.records; calibrate.train; calibrate.new_sources", "calibrate", rows,
                "--train", others, "--new-sources", others, *model, refused=True),
        command("train.data; train.validation", "train", "--data", rows, "-o", run, *steps, *model),
        command("filter-images fit.labels", "filter-images", "fit", ("T", "labels.csv"), "-o", run, *CPU,
                refused=True),
        command("filter-images run.images", "filter-images", "run", rows, "-o", out, *moved, *CPU,
                writes=("0.png", "1.png", "2.png")),
        command("filter-images run.images", "filter-images", "run", ("T", ""), "-o", out, *CPU,
                name="filter-images run FOLDER"),
        command("filter-images undo.folder", "filter-images", "undo", ("T", "moved"),
                writes=("7.png", "moved/7.png", "moved/moves.jsonl", "moved")),
        command("filter-images label.images", "filter-images", "label", rows, "-o", ("O", "l.csv"), **label),
    )  # fmt: skip


def _label(place: Place, said: str) -> None:
    """Look at the page and its first pictures."""
    url = re.search(r"http://\S+", said)
    assert url is not None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("", "state", "state/0", "image/0", "image/1"):
        with contextlib.suppress(OSError):
            opener.open(url[0].rstrip("/") + "/" + path, timeout=20).read()


def _tricks() -> Iterator[Trick]:
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


STRANGER = Stranger(prepare, tuple(_tricks()), _commands())
