"""What every format offers, and the steps they share from a published row to a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from biod2c_core.data.records import decode_line, iter_lines
from biod2c_core.errors import InputError, RecordError

Converter = Callable[[int, dict[str, Any]], dict[str, Any] | None]
CAPTION_QUESTION = "Describe the image."
SPLIT_WORDS = {"train": "train", "val": "validation", "test": "test", "dev": "validation"}


class Row(NamedTuple):
    """One published row, turned into the fields of a record, or the reason why that failed."""

    file: Path
    line: int
    value: dict[str, Any] | ValueError


@dataclass(frozen=True)
class Rejection:
    """A row that is no record: where it stands and why it was left out."""

    file: str
    line: int
    reason: str

    def to_error(self) -> RecordError:
        """The same as an error, for callers that accept no bad row."""
        return RecordError(self.file, self.line, self.reason)


@dataclass(frozen=True)
class ReadOptions:
    """Choices that only some formats have.

    Attributes:
        language: SLAKE's ``q_lang``, ``en`` or ``zh``; ``all`` takes every language.
        source: Name of the data set, for layouts that any data set can have; the folder's name by
            default.
        image_dir: Where formats that hold the images inside (hub parquet) write them.
    """

    language: str = "en"
    source: str = ""
    image_dir: Path | None = None


@dataclass(frozen=True)
class Format:
    """One layout in which a data set is published.

    Attributes:
        name: What the user calls it.
        layout: The files it consists of, for help and error messages.
        detect: Whether a path looks like it. Reads little and never raises.
        read: Streams the rows of a path in the fields of a record, not yet checked.
        image_root: The folder that ``Record.image`` is relative to.
        holds_images: The images are inside the data files; reading writes them to
            ``ReadOptions.image_dir``, which is then the image root.
    """

    name: str
    layout: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], Iterator[Row]]
    image_root: Callable[[Path], Path]
    holds_images: bool = False


def convert_rows(file: Path, rows: Iterable[tuple[int, Any]], convert: Converter) -> Iterator[Row]:
    """Turn the rows of one file into the fields of records.

    Args:
        file: Where they stand.
        rows: Line number and decoded value; a ``ValueError`` as value is a row that failed to decode.
        convert: Line and published row to the fields of a record, or None to leave it out silently (another
            language); raises ``ValueError`` with the reason why it is bad.
    """
    for line, row in rows:
        try:
            if isinstance(row, ValueError):
                raise row
            if not isinstance(row, dict):
                raise ValueError(f"expected a JSON object, got {type(row).__name__}")
            fields = convert(line, row)
            if fields is not None:
                yield Row(file, line, fields)
        except ValueError as error:
            yield Row(file, line, error)


def jsonl_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Decode JSONL and go on after a bad line, whose value is then the ``ValueError``.

    Raises:
        InputError: The file cannot be opened.
    """
    for number, line in iter_lines(path):
        try:
            yield number, decode_line(line)
        except ValueError as error:
            yield number, error


def first_row(rows: Iterator[tuple[int, Any]]) -> dict[str, Any]:
    """The first row if it is an object, else an empty one; for detection, so it never raises."""
    try:
        _, row = next(rows)
    except (StopIteration, InputError, OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def required(row: dict[str, Any], name: str) -> str:
    """A field as text without blanks around it.

    Raises:
        ValueError: It is missing, empty or neither text nor a number.
    """
    value = optional(row, name)
    if not value:
        raise ValueError(f"field {name!r} is missing or empty")
    return value


def optional(row: dict[str, Any], name: str) -> str:
    """A field as text without blanks around it, empty where it is missing or null.

    Raises:
        ValueError: It is neither text nor a number.
    """
    value = row.get(name)
    if value is None:
        return ""
    if type(value) is not str and type(value) not in (int, float):
        raise ValueError(f"field {name!r} must be text, got {type(value).__name__}")
    return str(value).strip()


def answer_type(row: dict[str, Any]) -> str:
    """The published ``answer_type`` without its stray blanks, or, without one, by the answer.

    Raises:
        ValueError: It is neither ``CLOSED`` nor ``OPEN``.
    """
    kind = optional(row, "answer_type").upper()
    if kind not in ("CLOSED", "OPEN", ""):
        raise ValueError(f"field 'answer_type' is {kind!r}; allowed: CLOSED, OPEN")
    return kind or yes_no_type(optional(row, "answer"))


def yes_no_type(answer: str) -> str:
    """``CLOSED`` for yes and no, ``OPEN`` for other answers: the rule where none is published."""
    if not answer:
        return ""
    return "CLOSED" if answer.lower().rstrip(".") in ("yes", "no") else "OPEN"


def tags(row: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    """Published fields as tags.

    Args:
        row: The published row.
        names: Field name to tag name; empty fields are left out.
    """
    values = {tag: optional(row, name) for name, tag in names.items()}
    return {tag: value for tag, value in values.items() if value}


def folder_of(path: Path) -> Path:
    """The folder itself, or the folder of a file."""
    return path if path.is_dir() else path.parent


def source_name(path: Path, options: ReadOptions) -> str:
    """The name of the data set: as asked for, or its folder's."""
    folder = folder_of(path.absolute())
    return options.source or (folder.parent if folder.name == "data" else folder).name


def split_of(file: Path) -> str:
    """The split that a file name speaks of, as ``train_2.csv`` or ``validate.json``; or none."""
    stem = file.stem.lower()
    return next((split for word, split in SPLIT_WORDS.items() if stem.startswith(word)), "")


def image_prefix(folder: Path, *names: str) -> str:
    """The first of these sub-folders that exists, with a slash, or nothing."""
    return next((f"{name}/" for name in names if (folder / name).is_dir()), "")


def in_folder(prefix: str, name: str) -> str:
    """An image's name with the folder before it, unless it is there already or absolute."""
    return name if name.startswith((prefix, "/")) else prefix + name


def caption_fields(question: str, caption: str) -> dict[str, str]:
    """The fields of a captioning sample, whose answer is the caption itself."""
    return {
        "question": question or CAPTION_QUESTION,
        "answer": caption,
        "answer_type": "OPEN",
        "caption": caption,
    }
