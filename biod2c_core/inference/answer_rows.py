"""Answers about many pictures as rows: JSONL or CSV, on stdout or in a file that a second run completes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from biod2c_core.append_log import lock_alone
from biod2c_core.atomic import NOT_UTF8, make_folder, write_json
from biod2c_core.errors import InputError
from biod2c_core.foreign import escape_formula
from biod2c_core.inference.questions import Question, Reply
from biod2c_core.inference.volumes.ask import Whole

FORMATS = {".jsonl": "json", ".csv": "csv"}  # by the suffix of the file
MANIFEST_SUFFIX = ".manifest.json"
_COLUMNS = (
    "image",
    "id",
    "question",
    "answer",
    "confidence",
    "calibrated",
    "abstained",
    "model",
    "familiarity",
)


class RowFormat:
    """How an answer is written, a line each.

    Args:
        name: ``json`` or ``csv``.
        n_best: How many answers a CSV row has columns for.
        volumes: Whether rows are about slices, and about the whole of them.
    """

    def __init__(self, name: str, n_best: int = 1, volumes: bool = False) -> None:
        self.name = name
        self.volumes = volumes
        further = [
            f"{what}_{rank}" for rank in range(2, n_best + 1) for what in ("answer", "confidence")
        ]
        self.columns = [*_COLUMNS, *further]
        if volumes:
            self.columns = ["image", "slice", *self.columns[1:], "slices", "spread"]

    @property
    def head(self) -> str | None:
        """The line in front of the rows, if there is one."""
        return _csv_line(self.columns) if self.name == "csv" else None

    def line(self, image: str, reply: Reply | Whole, index: int | None = None) -> str:
        """An answer, without the newline; of volumes that of a slice, or of the whole without one."""
        place = {"slice": index} if self.volumes else {}
        row = {"image": image, **place, **reply.to_row()}
        if self.name == "json":
            return json.dumps(row, ensure_ascii=False)
        if isinstance(reply, Whole):
            row["spread"] = reply.spread_text()
        for rank, candidate in enumerate(row.get("candidates", ())[1:], start=2):
            row |= {f"{key}_{rank}": value for key, value in candidate.items()}
        return _csv_line([_cell(row.get(column)) for column in self.columns])

    def read(self, text: str) -> list[dict[str, Any]]:
        """The rows of a file.

        Raises:
            ValueError: It holds something else.
        """
        if self.name == "csv":
            if not text:
                return []
            reader = csv.DictReader(io.StringIO(text))
            if list(reader.fieldnames or ()) != self.columns:
                raise ValueError(f"its columns are {', '.join(reader.fieldnames or ())}")
            return list(reader)
        rows = [json.loads(line) for line in text.split("\n") if line]
        if not all(isinstance(row, dict) and {"image", "question"} <= set(row) for row in rows):
            raise ValueError("a row lacks image or question")
        return rows


def _cell(value: Any) -> str:
    """One line of UTF-8, whatever it holds, and nothing that a spreadsheet would compute.

    A row that a kill cut off is told by its missing newline.
    """
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    line = " ".join(str(value).splitlines())
    return escape_formula(line.encode("utf-8", NOT_UTF8).decode("utf-8"))


def _csv_line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


class AnswerFile:
    """A file of answers, appended to; what it holds already is not asked again.

    Beside it stands ``FILE.manifest.json``: with another model or other options a file is refused, so
    that it never mixes two runs.

    Args:
        path: ``.jsonl`` or ``.csv``.
        manifest: Says who answers, and how.
        n_best: How many answers a row lists.
        volumes: As in :class:`RowFormat`.

    Raises:
        InputError: The suffix is another one, or the file is not of such a run.
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], n_best: int = 1, volumes: bool = False
    ) -> None:
        self.path = path
        suffix = check_answer_path(path).suffix.lower()
        self.format = RowFormat(FORMATS[suffix], n_best, volumes)
        self._check_same_run(manifest)
        make_folder(path.parent)
        self._file = path.open("a+b")
        try:
            lock_alone(self._file, path)
            write_json(
                self._manifest, manifest
            )  # before the first line: a kill may come in between
            self._done = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def _manifest(self) -> Path:
        return self.path.with_name(self.path.name + MANIFEST_SUFFIX)

    def _check_same_run(self, manifest: dict[str, Any]) -> None:
        remedy = "Choose another file, or remove it and its manifest."
        if not self._manifest.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise InputError(f"{self.path} was not written by this command", remedy)
            return
        try:
            before = dict(json.loads(self._manifest.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"cannot read {self._manifest}", remedy) from error
        for key, value in json.loads(json.dumps(manifest)).items():
            if before.get(key) != value and self.path.exists():
                raise InputError(
                    f"{self.path} was begun with {key} {before.get(key)!r}, this run has {value!r}",
                    remedy,
                )

    def _read(self) -> dict[tuple[str, ...], Reply | None]:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # a kill in the middle of a line
            self._file.truncate(len(whole))
        try:
            rows = self.format.read(whole.decode("utf-8"))
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"{self.path} does not hold answers of this command: {error}",
                "Choose another file.",
            ) from error
        if not whole and self.format.head is not None:
            self._write(self.format.head)
        try:
            return {self._key(row): self._reply(row) for row in rows}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path} holds a row that is no answer of this command", "Choose another file."
            ) from error

    def _key(self, row: dict[str, Any]) -> tuple[str, ...]:
        place = str(row["slice"]) if self.format.volumes and row["slice"] not in (None, "") else ""
        return row["image"], row["question"], row.get("id") or "", place

    def _reply(self, row: dict[str, Any]) -> Reply | None:
        """Of a slice, what the whole needs of it."""
        if not self.format.volumes or row["slice"] in (None, ""):
            return None
        known = row.get("familiarity")
        abstained = str(row["abstained"]).lower() == "true"
        return Reply(
            question=row["question"],
            answer=None if abstained else self._unescaped(row["answer"]),
            confidence=float(row["confidence"]),
            calibrated=False,
            abstained=abstained,
            model=row["model"],
            seconds=float(row.get("seconds") or 0),
            familiarity=None if known in (None, "") else float(known),
        )

    def _unescaped(self, text: str) -> str:
        """An answer as it was before a CSV row was made safe to open."""
        was_escaped = self.format.name == "csv" and escape_formula(text[1:]) == text
        return text[1:] if was_escaped else text

    def _write(self, line: str) -> None:
        self._file.write(line.encode("utf-8", NOT_UTF8) + b"\n")
        self._file.flush()

    def lacks(self, image: str, question: Question, index: int | None = None) -> bool:
        """Whether a question about a picture, a slice or the whole is still to be answered."""
        return self._asked(image, question, index) not in self._done

    def reply(self, image: str, question: Question, index: int) -> Reply | None:
        """What the file holds of a slice's reply: all that the whole needs."""
        return self._done.get(self._asked(image, question, index))

    def _asked(self, image: str, question: Question, index: int | None) -> tuple[str, ...]:
        names: tuple[str, ...] = (image, question.text, question.id or "")
        names = tuple(map(_cell, names)) if self.format.name == "csv" else names
        return (*names, "" if index is None else str(index))

    def add(self, image: str, reply: Reply | Whole, index: int | None = None) -> None:
        """Append an answer; a kill after it costs nothing."""
        self._write(self.format.line(image, reply, index))

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._file.fileno())


def check_answer_path(path: Path) -> Path:
    """Refuse a name whose suffix does not say how to write, before a model is loaded.

    Raises:
        InputError: The suffix is neither ``.jsonl`` nor ``.csv``, or it is a folder.
    """
    if path.suffix.lower() not in FORMATS or path.is_dir():
        raise InputError(
            f"{path} is not the name of an answer file", f"Let it end in {' or '.join(FORMATS)}."
        )
    return path
