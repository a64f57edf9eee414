"""Any CSV whose columns are named like the fields of a record; other columns become tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Converter,
    Format,
    ReadOptions,
    Row,
    answer_type,
    caption_fields,
    convert_rows,
    first_row,
    folder_of,
    optional,
    required,
    source_name,
    split_of,
)
from biod2c_core.data.formats.rows.csv_rows import iter_csv
from biod2c_core.data.records import FIELDS

QUEUE_SEPARATOR = ";"


def _detect(path: Path) -> bool:
    if path.suffix != ".csv" or not path.is_file():
        return False
    names = {name.lower() for name in first_row(iter_csv(path))}
    return "image" in names and bool(names & {"question", "caption"})


def _converter(file: Path, source: str) -> Converter:
    def convert(line: int, row: dict[str, Any]) -> dict[str, Any]:
        lower = {name.lower(): value for name, value in row.items() if name}
        caption, question = optional(lower, "caption"), optional(lower, "question")
        texts = {
            "question": question,
            "answer": optional(lower, "answer"),
            "answer_type": answer_type(lower),
            "caption": caption,
        }
        queue = optional(lower, "queue").split(QUEUE_SEPARATOR)
        return {
            "id": optional(lower, "id") or f"{source}-{file.stem}-{line}",
            "image": required(lower, "image"),
            **(texts if question or not caption else caption_fields("", caption)),
            "queue": [text.strip() for text in queue if text.strip()],
            "source": optional(lower, "source") or source,
            "split": optional(lower, "split") or split_of(file),
            "tags": {
                name: value.strip()
                for name, value in row.items()
                if name and name.lower() not in FIELDS and value.strip()
            },
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    convert = _converter(path, source_name(path, options))
    yield from convert_rows(path, iter_csv(path), convert)


FORMAT = Format(
    name="csv",
    layout="one .csv with the columns image and question (or caption), and any field of a record",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
