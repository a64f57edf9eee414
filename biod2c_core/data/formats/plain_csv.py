"""Any CSV whose columns are named like the fields of a record; other columns become tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from biod2c_core.data.formats.base import (
    Format,
    ReadOptions,
    Row,
    convert_rows,
    first_names,
    folder_of,
    source_name,
    split_of,
)
from biod2c_core.data.formats.fields.columns import TableRows, find_columns, missing_columns
from biod2c_core.data.formats.rows.csv_rows import is_csv, iter_csv


def _detect(path: Path) -> bool:
    return is_csv(path) and not missing_columns(find_columns(first_names(iter_csv(path))))


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    source = source_name(path, options)
    name = f"{source}-{path.stem}"
    table = TableRows(options.notes, source, split_of(path), name, is_text=True)
    rows = iter_csv(path, options.notes)
    yield from convert_rows(path, rows, table.convert, None, options.notes)


FORMAT = Format(
    name="csv",
    layout="one .csv or .tsv with the columns image and question (or caption), and any field of a record",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
