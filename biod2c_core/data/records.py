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
split    ``train``, ``validation``, ``test`` or empty; read in other cases and as ``val``, ``dev`` ... too
boxes    where in the image the answer is to be seen: a list of [left, top, right, bottom], shares
         of the image's width and height from 0 to 1
tags     free key-value text about the record (organ, modality, question type), for breakdowns
======== =========================================================================================
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NewType, NoReturn

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import InputError, RecordError

ANSWER_TYPES = ("CLOSED", "OPEN", "")
SPLITS = ("train", "validation", "test", "")
MAX_LINE_BYTES = 16 << 20
_MOST_SKIPPED = 1 << 30  # of one line
_EXACT = 1e15  # whole numbers below it are exact as floats
# Left, top, right, bottom in shares of the image's width and height, from 0 to 1. Elsewhere boxes are in
# pixels (PixelBox) and in cells of the grid (CellBox): the types keep them apart.
ShareBox = NewType("ShareBox", tuple[float, float, float, float])
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False
).encode  # dumps() makes one each time
_TEXT_FIELDS = ("id", "image", "question", "answer", "answer_type", "caption", "source", "split")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


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
        """The record as one line of JSON; empty optional fields are left out.

        Raises:
            ValueError: A box holds NaN or infinity, which JSON does not have.
        """
        # vars(), not asdict(): that copies every value, which takes longer than encoding them
        return _encode({key: value for key, value in vars(self).items() if value})

    def changed(self, **values: Any) -> Record:
        """``dataclasses.replace``, which takes as long as reading the record, without its checks."""
        other = object.__new__(Record)
        vars(other).update(vars(self), **values)
        return other


_ORDER = tuple(field.name for field in fields(Record))
FIELDS = frozenset(_ORDER)


def text_of(name: str, value: Any) -> str:
    """A value as text without blanks around it: empty for None, "2" for 2 and for 2.0.

    Args:
        name: The field, for the message.
        value: Of a decoded row.

    Raises:
        ValueError: It is NaN or infinite, or neither text nor a number.
    """
    if type(value) is str:
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"field {name!r} must be text, got {type(value).__name__}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"field {name!r} is {value}, which is neither text nor a number")
        if value.is_integer() and abs(value) < _EXACT:  # how tables spell whole numbers
            return str(int(value))
    return str(value).strip()


def split_named(text: str) -> str:
    """The split that a word speaks of: ``validation`` for "Val"; empty for an empty text.

    Raises:
        ValueError: It is not such a word.
    """
    word = text.strip().lower()
    if word and word not in SPLIT_WORDS:
        allowed = ", ".join(SPLITS)
        raise ValueError(f"field 'split' is {text!r}; allowed: {allowed}")
    return SPLIT_WORDS.get(word, "")


def parse_record(row: Any) -> Record:
    """Check one decoded JSON value and make it a record.

    Args:
        row: What ``json.loads`` gave for one line. ``null`` is a field that is not there.

    Raises:
        ValueError: The value is not an object, a field is missing, unknown, or of the wrong type. The
            message names the field; the caller adds file and line.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    if not row.keys() <= FIELDS:
        unknown = min(map(str, row.keys() - FIELDS))
        raise ValueError(f"unknown field {unknown!r}; known: {', '.join(sorted(FIELDS))}")
    values: dict[str, Any] = {}
    for name in _TEXT_FIELDS:
        value = row.get(name, "")
        values[name] = value.strip() if type(value) is str else text_of(name, value)
    for name in ("id", "image", "question"):
        if not values[name]:
            raise ValueError(f"field {name!r} is missing or empty")
    if "\0" in values["image"]:
        raise ValueError("field 'image' holds a null character, which no path does")
    if values["split"] not in SPLITS:
        values["split"] = split_named(values["split"])
    if values["answer_type"] not in ANSWER_TYPES:
        values["answer_type"] = _answer_type(values["answer_type"])
    queue = [] if row.get("queue") is None else row["queue"]
    if not isinstance(queue, list) or not all(isinstance(text, str) for text in queue):
        raise ValueError("field 'queue' must be a list of texts")
    tags = {} if row.get("tags") is None else row["tags"]
    if not isinstance(tags, dict) or not all(isinstance(text, str) for text in tags.values()):
        raise ValueError("field 'tags' must be an object of texts")
    _check_characters(values, queue, tags)
    values["queue"], values["tags"] = tuple(queue), tags
    values["boxes"] = _boxes(boxes) if (boxes := row.get("boxes")) is not None else ()
    record = object.__new__(Record)  # a frozen dataclass takes 5 times longer to fill itself
    record.__dict__.update((name, values[name]) for name in _ORDER)
    return record


def _answer_type(text: str) -> str:
    if text.upper() not in ANSWER_TYPES:
        allowed = ", ".join(ANSWER_TYPES)
        raise ValueError(f"field 'answer_type' is {text!r}; allowed: {allowed}")
    return text.upper()


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


def _check_characters(values: dict[str, str], queue: list[str], tags: dict[str, str]) -> None:
    """Refuse halves of characters (lone surrogates), which JSON can spell but no file can hold."""
    if "".join([*values.values(), *queue, *tags, *tags.values()]).isascii():
        return
    texts = {**values, "queue": "".join(queue), "tags": "".join([*tags, *tags.values()])}
    try:
        "".join(texts.values()).encode("utf-8")
    except UnicodeEncodeError:
        name = next(name for name, text in texts.items() if _is_broken(text))
        raise ValueError(f"field {name!r} holds a broken character (lone surrogate)") from None


def _is_broken(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def bom_encoding(head: bytes) -> str:
    """The encoding that the first bytes of a file declare, or nothing."""
    marks = {
        codecs.BOM_UTF8: "utf-8-sig",
        codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
        codecs.BOM_UTF32_BE: "utf-32",
        codecs.BOM_UTF16_LE: "utf-16",
        codecs.BOM_UTF16_BE: "utf-16",
    }
    return next((name for mark, name in marks.items() if head.startswith(mark)), "")


def _wide_lines(path: str | Path, encoding: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a UTF-16 or UTF-32 file, as UTF-8."""
    with Path(path).open(encoding=encoding, errors="surrogatepass", newline="\n") as file:
        number = 0
        try:
            while line := file.readline(MAX_LINE_BYTES + 2):
                number += 1
                if line.strip():
                    yield number, line.encode("utf-8", "surrogatepass")
        except UnicodeError:
            yield number + 1, b"\xff"  # no text from here on: a line that does not decode


def iter_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file that are not blank, none longer than ``MAX_LINE_BYTES`` and a bit.

    Yields:
        Line number (from 1) and the raw line; of a longer line only its beginning.

    Raises:
        InputError: The file cannot be opened, or has a line that does not end for a gigabyte.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed by the with below)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    with file:
        encoding = bom_encoding(file.peek(4)[:4])  # peek: a pipe cannot be wound back
        if encoding.startswith(("utf-16", "utf-32")):
            yield from _wide_lines(path, encoding)
            return
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 2):
            number += 1
            rest, skipped = line, 0
            while len(rest) == MAX_LINE_BYTES + 2 and not rest.endswith(b"\n"):
                skipped += len(rest)
                if skipped > _MOST_SKIPPED:  # a device never ends
                    raise InputError(
                        f"line {number} of {path} has over {_MOST_SKIPPED >> 20} MiB",
                        "It is not a file of rows; check the path.",
                    )
                rest = file.readline(MAX_LINE_BYTES + 2)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


class UnfitJSONError(ValueError):
    """A row that Python decodes and JSON does not have, or has in two readings.

    Args:
        problem: What is wrong.
        value: What Python makes of it.
    """

    def __init__(self, problem: str, value: Any) -> None:
        self.value = value
        super().__init__(problem)


NOT_A_NUMBER = "not JSON, which has no NaN and no Infinity; leave the field out"


def _refuse_constant(name: str) -> NoReturn:
    raise UnfitJSONError(NOT_A_NUMBER, name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_line(line: bytes) -> Any:
    """Decode one line of JSONL.

    Raises:
        ValueError: The line is not UTF-8, is not JSON (which has no NaN and no Infinity), names a field
            twice, or is too long; the message says which.
    """
    if len(line) > MAX_LINE_BYTES + 1:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        text = line.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except UnfitJSONError:
        raise UnfitJSONError(NOT_A_NUMBER, json.loads(line)) from None
    except (ValueError, RecursionError) as error:  # also numbers and nesting without end
        raise ValueError("not JSON") from error
    check_repeated(text, value)
    return value


def check_repeated(text: str, value: Any) -> None:
    """Check that no object names a field twice: JSON readers keep the last one, silently.

    Args:
        text: What was decoded.
        value: What it gave.

    Raises:
        UnfitJSONError: A field is there twice.
    """
    if not isinstance(value, dict):
        return
    names = len(value) + sum(len(each) for each in value.values() if type(each) is dict)
    if text.count('":') == names:
        return  # nearly always; else look closely: the text may have it in a string, or blanks
    try:
        json.JSONDecoder(object_pairs_hook=_unrepeated).decode(text)
    except ValueError as error:
        raise UnfitJSONError(str(error), value) from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is there twice")
    return found


def iter_jsonl(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Decode a JSONL file line by line, skipping blank lines.

    Yields:
        Line number (from 1) and the decoded value.

    Raises:
        InputError: The file cannot be opened.
        RecordError: A line is not UTF-8 or not JSON; ``file:line`` is named.
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
