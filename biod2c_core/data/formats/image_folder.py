"""A folder of images with captions: ``metadata.jsonl``, ``metadata.csv``, or ``a.txt`` beside ``a.png``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Converter,
    Format,
    ReadOptions,
    Row,
    convert_rows,
    jsonl_rows,
    source_name,
)
from biod2c_core.data.formats.fields.values import (
    answer_type,
    caption_fields,
    optional,
    required,
)
from biod2c_core.data.formats.rows.csv_rows import iter_csv
from biod2c_core.data.images import IMAGE_SUFFIXES
from biod2c_core.data.records import SPLIT_WORDS

TABLES = {"metadata.jsonl": jsonl_rows, "metadata.csv": iter_csv}
CAPTION_COLUMNS = ("caption", "text")
TAKEN = ("file_name", "question", "answer", "answer_type", *CAPTION_COLUMNS)
MAX_CAPTION_BYTES = 64 << 10


def _table(path: Path) -> Path | None:
    return next((path / name for name in TABLES if (path / name).is_file()), None)


def _images(path: Path) -> Iterator[Path]:
    """Every image below a folder, in the order of their names."""
    for folder, subfolders, names in os.walk(path):
        subfolders.sort()
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield Path(folder, name)


def _detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    first = next(_images(path), None)
    return first is not None and (_table(path) is not None or _sidecar(first).is_file())


def _fields(source: str, image: str, texts: dict[str, str]) -> dict[str, Any]:
    top, _, rest = image.partition("/")
    return {
        "id": f"{source}-{image}",
        "image": image,
        "source": source,
        "split": SPLIT_WORDS.get(top.lower(), "") if rest else "",  # train/a.png, as on the hub
        **texts,
    }


def _table_converter(source: str) -> Converter:
    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        name = next((name for name in CAPTION_COLUMNS if optional(row, name)), CAPTION_COLUMNS[0])
        if question := optional(row, "question"):
            texts = {"question": question, "caption": optional(row, name)}
            texts |= {"answer": optional(row, "answer"), "answer_type": answer_type(row)}
        else:
            texts = caption_fields("", required(row, name))
        return _fields(source, required(row, "file_name"), texts)

    return convert


def _sidecar(image: Path) -> Path:
    """``scan.txt`` for ``scan.png`` and for ``scan.nii.gz``."""
    return image.with_name(image.name.removesuffix(".gz")).with_suffix(".txt")


def _caption(file: Path) -> str:
    try:
        with file.open("rb") as text:
            data = text.read(MAX_CAPTION_BYTES + 1)
    except OSError as error:
        raise ValueError(f"no caption: {file.name}: {error.strerror}") from error
    if len(data) > MAX_CAPTION_BYTES:
        raise ValueError(f"the caption is longer than {MAX_CAPTION_BYTES >> 10} KiB")
    caption = data.decode("utf-8-sig", errors="surrogateescape").strip()
    if not caption:
        raise ValueError("the caption is empty")
    return caption


def _sidecar_rows(path: Path, source: str) -> Iterator[Row]:
    for image in _images(path):
        try:
            texts = caption_fields("", _caption(_sidecar(image)))
        except ValueError as error:
            yield Row(image, 1, error)
        else:
            yield Row(image, 1, _fields(source, image.relative_to(path).as_posix(), texts))


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    source = source_name(path, options)
    table = _table(path)
    if table is None:
        yield from _sidecar_rows(path, source)
    else:
        rows, convert = TABLES[table.name](table), _table_converter(source)
        yield from convert_rows(table, rows, convert, TAKEN, options.notes)


FORMAT = Format(
    name="image-folder",
    layout="images with metadata.jsonl or metadata.csv (file_name, caption or text), or a .txt each",
    detect=_detect,
    read=_read,
    image_root=lambda path: path,
)
