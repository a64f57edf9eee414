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
    caption_fields,
    convert_rows,
    jsonl_rows,
    optional,
    required,
    source_name,
)
from biod2c_core.data.formats.rows.csv_rows import iter_csv
from biod2c_core.data.images import IMAGE_SUFFIXES

TABLES = {"metadata.jsonl": jsonl_rows, "metadata.csv": iter_csv}
CAPTION_COLUMNS = ("caption", "text")
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


def _fields(source: str, image: str, caption: str) -> dict[str, Any]:
    return {
        "id": f"{source}-{image}",
        "image": image,
        "source": source,
        **caption_fields("", caption),
    }


def _table_converter(source: str) -> Converter:
    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        name = next((name for name in CAPTION_COLUMNS if optional(row, name)), CAPTION_COLUMNS[0])
        return _fields(source, required(row, "file_name"), required(row, name))

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
            caption = _caption(_sidecar(image))
        except ValueError as error:
            yield Row(image, 1, error)
        else:
            yield Row(image, 1, _fields(source, image.relative_to(path).as_posix(), caption))


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    source = source_name(path, options)
    table = _table(path)
    if table is None:
        yield from _sidecar_rows(path, source)
    else:
        yield from convert_rows(table, TABLES[table.name](table), _table_converter(source))


FORMAT = Format(
    name="image-folder",
    layout="images with metadata.jsonl or metadata.csv (file_name, caption or text), or a .txt each",
    detect=_detect,
    read=_read,
    image_root=lambda path: path,
)
