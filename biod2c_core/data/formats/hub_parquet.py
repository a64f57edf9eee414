"""Parquet files as the hub serves VQA data: ``image`` (bytes, or bytes and path), ``question`` ...

Read through the ``datasets`` library, streaming. The images are inside, so they are written to a
folder, each once, under a name made of its content: the rows of one image get the same name.
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
    folder_of,
    source_name,
    split_of,
)
from biod2c_core.data.formats.fields.columns import TableRows, find_columns, missing_columns
from biod2c_core.data.formats.fields.notes import ID_TWICE
from biod2c_core.data.formats.rows.parquet_rows import iter_parquet
from biod2c_core.data.formats.rows.pictures import store_picture
from biod2c_core.errors import InputError


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def _converter(file: Path, options: ReadOptions, source: str, elsewhere: set[str]) -> Converter:
    """For one file; ``elsewhere`` are the ids of the files before it, and grows."""
    table = TableRows(options.notes, source, split_of(file), f"{source}-{file.stem}")
    folder = options.image_dir or Path()
    earlier = frozenset(elsewhere)

    def convert(number: int, row: dict[str, Any]) -> dict[str, Any]:
        columns = find_columns(row)
        if missing := missing_columns(columns):
            raise ValueError(f"the columns are {', '.join(row)}; missing: {missing}")
        fields = table.convert(number, row, store_picture(row[columns["image"]], folder))
        if fields["id"] in earlier:  # published splits often count from 0 each
            options.notes.add(ID_TWICE, file.name)
            fields["id"] = f"{file.stem}-{fields['id']}"
        elsewhere.add(fields["id"])
        return fields

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    if options.image_dir is None:
        raise InputError(
            f"{path} holds its images inside the parquet files",
            "Import it first: biod2c data import hub-parquet SOURCE -o OUT.jsonl",
        )
    source = source_name(path, options)
    ids: set[str] = set()
    for file in _files(path):
        convert = _converter(file, options, source, ids)
        yield from convert_rows(file, iter_parquet(file), convert, None, options.notes)


FORMAT = Format(
    name="hub-parquet",
    layout="*.parquet, or data/*.parquet, of image (its bytes), question, answer, any field of a record",
    detect=lambda path: bool(_files(path)),
    read=_read,
    image_root=folder_of,
    holds_images=True,
)
