"""The one canonical record: a question about an image, one JSON object a line (JSONL).

======== =========================================================================================
field    meaning
======== =========================================================================================
id       unique in its file
image    path of the image, relative to the image root (by default the folder of the JSONL file)
question the question, or the instruction for a caption ("Describe the image.")
answer   the gold answer as text; empty where unknown
answer_type  ``CLOSED``, ``OPEN`` or empty
caption  text that describes the image; empty where unknown
queue    texts related to the image (section 3.2): a list of strings
source   the data set the record comes from
split    ``train``, ``validation``, ``test`` or empty
boxes    where in the image the answer is to be seen: a list of [left, top, right, bottom], shares
         of the image's width and height from 0 to 1
tags     free key-value text about the record (organ, modality, question type), for breakdowns
======== =========================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NewType

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import InputError, RecordError

ANSWER_TYPES = ("CLOSED", "OPEN", "")
SPLITS = ("train", "validation", "test", "")
MAX_LINE_BYTES = 16 << 20
# Left, top, right, bottom in shares of the image's width and height, from 0 to 1. Elsewhere boxes are in
# pixels (PixelBox) and in cells of the grid (CellBox): the types keep them apart.
ShareBox = NewType("ShareBox", tuple[float, float, float, float])
_TEXT_FIELDS = ("id", "image", "question", "answer", "answer_type", "caption", "source", "split")


@dataclass(frozen=True)
class Record:
    """A question about an image; see the module for the fields."""

    id: str
    image: str
    question: str
    answer: str = ""
    answer_type: str = ""
    caption: str = ""
    queue: tuple[str, ...] = ()
    boxes: tuple[ShareBox, ...] = ()
    source: str = ""
    split: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record as one line of JSON; empty optional fields are left out."""
        # vars(), not asdict(): that copies every value, which takes longer than encoding them
        row = {key: value for key, value in vars(self).items() if value not in ("", (), {})}
        return json.dumps(row, ensure_ascii=False)


FIELDS = frozenset(field.name for field in fields(Record))


def parse_record(row: Any) -> Record:
    """Check one decoded JSON value and make it a record.

    Args:
        row: What ``json.loads`` gave for one line.

    Raises:
        ValueError: The value is no object, a field is missing, unknown, or of the wrong type. The
            message names the field; the caller adds file and line.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    if unknown := sorted(set(row) - FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(FIELDS))}")
    for name in ("id", "image", "question"):
        if not str(row.get(name, "")).strip():
            raise ValueError(f"field {name!r} is missing or empty")
    values: dict[str, Any] = {}
    for name in _TEXT_FIELDS:
        value = row.get(name, "")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"field {name!r} must be text, got {type(value).__name__}")
        values[name] = _clean(name, str(value)).strip()
    for name, allowed in (("answer_type", ANSWER_TYPES), ("split", SPLITS)):
        if values[name] not in allowed:
            raise ValueError(f"field {name!r} is {values[name]!r}; allowed: {', '.join(allowed)}")
    queue = row.get("queue", [])
    if not isinstance(queue, list) or not all(isinstance(text, str) for text in queue):
        raise ValueError("field 'queue' must be a list of texts")
    for text in queue:
        _clean("queue", text)
    tags = row.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(text, str) for text in tags.values()):
        raise ValueError("field 'tags' must be an object of texts")
    for key, text in tags.items():
        _clean("tags", key + text)
    return Record(**values, queue=tuple(queue), boxes=_boxes(row.get("boxes", [])), tags=tags)


def _boxes(value: Any) -> tuple[ShareBox, ...]:
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        numbers = isinstance(row, list) and all(type(each) in (int, float) for each in row)
        if not (
            numbers and len(row) == 4 and 0 <= row[0] < row[2] <= 1 and 0 <= row[1] < row[3] <= 1
        ):
            raise ValueError(
                "field 'boxes' must be a list of [left, top, right, bottom] in shares from 0 to 1, "
                f"got {json.dumps(row)[:60]}"
            )
    return tuple(ShareBox((row[0], row[1], row[2], row[3])) for row in rows)


def _clean(name: str, text: str) -> str:
    """Refuse halves of characters (lone surrogates), which JSON can spell but no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"field {name!r} holds a broken character (lone surrogate)") from None
    return text


def iter_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file that are not blank, none longer than ``MAX_LINE_BYTES`` and a bit.

    Yields:
        Line number (from 1) and the raw line; of a longer line only its beginning.

    Raises:
        InputError: The file cannot be opened.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed by the with below)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 2):
            number += 1
            rest = line
            while len(rest) == MAX_LINE_BYTES + 2 and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE_BYTES + 2)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def decode_line(line: bytes) -> Any:
    """Decode one line of JSONL.

    Raises:
        ValueError: The line is no UTF-8, no JSON, or too long; the message says which.
    """
    if len(line) > MAX_LINE_BYTES + 1:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # also numbers and nesting without end
        raise ValueError("not JSON") from error


def iter_jsonl(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Decode a JSONL file line by line, skipping blank lines.

    Yields:
        Line number (from 1) and the decoded value.

    Raises:
        InputError: The file cannot be opened.
        RecordError: A line is no UTF-8 or no JSON; ``file:line`` is named.
    """
    for number, line in iter_lines(path):
        try:
            yield number, decode_line(line)
        except ValueError as error:
            remedy = "Each line must be a JSON object."
            raise RecordError(path, number, str(error), remedy) from error


def iter_records(path: str | Path) -> Iterator[Record]:
    """Read canonical records from a JSONL file.

    Raises:
        InputError: The file cannot be opened.
        RecordError: A line is malformed, or an id occurs twice; ``file:line`` is named.
    """
    seen: set[str] = set()
    for number, row in iter_jsonl(path):
        try:
            record = parse_record(row)
        except ValueError as error:
            raise RecordError(path, number, str(error)) from error
        if record.id in seen:
            raise RecordError(path, number, f"id {record.id!r} occurs twice", "Make ids unique.")
        seen.add(record.id)
        yield record


def write_records(path: str | Path, records: Iterable[Record]) -> int:
    """Write records as JSONL, atomically.

    Returns:
        How many were written.
    """
    count = 0
    with atomic_open(path) as file:
        for record in records:
            file.write(record.to_json() + "\n")
            count += 1
    return count
