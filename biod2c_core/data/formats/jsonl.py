"""The canonical records themselves: one JSONL file, or a folder with one file per split.

Any field of a record beyond image, question and answer makes a file one of ours. What a row has
besides is kept as a tag, or makes it a bad row: it never costs the fields that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Converter,
    Format,
    ReadOptions,
    Row,
    convert_rows,
    first_names,
    folder_of,
    jsonl_rows,
    split_of,
)
from biod2c_core.data.formats.fields.notes import AS_TAGS, WITHOUT_ID, Notes
from biod2c_core.data.formats.fields.values import is_empty
from biod2c_core.data.records import FIELDS, text_of
from biod2c_core.errors import nearest

SPLIT_FILES = ("train.jsonl", "validation.jsonl", "valid.jsonl", "val.jsonl", "test.jsonl")
OWN = FIELDS - {"image", "question", "answer", "caption", "queue"}  # what others have too
_TYPO = 0.82


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in SPLIT_FILES if (path / name).is_file()]
    return [path]


def _detect(path: Path) -> bool:
    files = _files(path)
    if not files or files[0].suffix.lower() != ".jsonl" or not files[0].is_file():
        return False
    names = {name.strip().lower() for name in first_names(jsonl_rows(files[0]))}
    if names.isdisjoint({"image", "question"}):
        return False
    if "question" not in names and "caption" in names:
        return False  # captions: PMC-OA's reader makes the question and keeps the other fields
    return not names.isdisjoint(OWN) or {"question", "caption"} <= names or "answer" not in names


def _converter(file: Path, notes: Notes) -> Converter:
    split = split_of(file)

    def convert(line: int, published: dict[str, Any]) -> dict[str, Any]:
        row = published
        if not row.keys() <= FIELDS:
            row = _own(row, notes)
        if is_empty(row.get("id")):
            notes.add(WITHOUT_ID, file.name)
            row = {**row, "id": f"{file.stem}-{line}"}
        if split and is_empty(row.get("split")):
            row = {**row, "split": split}
        return row

    return convert


def _own(published: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """The fields of a record in their own spelling, all others as tags.

    Raises:
        ValueError: A field is there twice, looks like one of ours misspelt, or fits in no tag.
    """
    row: dict[str, Any] = {}
    others: dict[str, str] = {}
    for name, value in published.items():
        key = name.strip().lower()
        if key in row:
            raise ValueError(f"field {key!r} is there twice")
        if key in FIELDS:
            row[key] = value
        elif not is_empty(value):
            _check_unknown(name, key, value)
            others[name] = str(value) if isinstance(value, bool) else text_of(name, value)
            notes.add(AS_TAGS, name)
    tags = row.get("tags") or {}
    if others and isinstance(tags, dict):
        if twice := next((n for n in others if tags.get(n, others[n]) != others[n]), None):
            raise ValueError(f"field {twice!r} is also a tag, with another value")
        row["tags"] = {**tags, **others}
    return row


def _check_unknown(name: str, key: str, value: Any) -> None:
    close = nearest(key, FIELDS, _TYPO) if len(key) > 2 else None
    if close is not None and abs(len(close) - len(key)) <= 1:
        raise ValueError(f"unknown field {name!r}; is {close!r} meant?")
    if not isinstance(value, str | int | float):
        known = ", ".join(sorted(FIELDS))
        raise ValueError(
            f"unknown field {name!r}; known: {known}; others are kept if they are text"
        )


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        convert = _converter(file, options.notes)
        yield from convert_rows(file, jsonl_rows(file), convert, None, options.notes)


FORMAT = Format(
    name="jsonl",
    layout="records of this project: one .jsonl file, or train.jsonl, validation.jsonl, test.jsonl",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
