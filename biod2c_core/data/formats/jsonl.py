"""The canonical records themselves: one JSONL file, or a folder with one file a split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from biod2c_core.data.formats.base import (
    Format,
    ReadOptions,
    Row,
    convert_rows,
    first_row,
    folder_of,
    jsonl_rows,
)
from biod2c_core.data.records import FIELDS

SPLIT_FILES = ("train.jsonl", "validation.jsonl", "test.jsonl")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in SPLIT_FILES if (path / name).is_file()]
    return [path]


def _detect(path: Path) -> bool:
    files = _files(path)
    if not files or files[0].suffix != ".jsonl":
        return False
    row = first_row(jsonl_rows(files[0]))
    return {"id", "image", "question"} <= set(row) <= FIELDS


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        yield from convert_rows(file, jsonl_rows(file), lambda _, row: row)


FORMAT = Format(
    name="jsonl",
    layout="records of this project: one .jsonl file, or train.jsonl, validation.jsonl, test.jsonl",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
