"""Parquet files as the hub serves VQA data: ``image`` (bytes, or bytes and path), ``question`` ...

Read through the ``datasets`` library, streaming. The images are inside, so they are written to a
folder, each once, under a name made of its content: the rows of one image get the same name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open
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
from biod2c_core.data.images import MAX_BYTES
from biod2c_core.errors import BioD2CError, InputError, MissingDependencyError

ROWS_AT_ONCE = 16
_MAGIC = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def _store(image: Any, folder: Path) -> str:
    """Write an image's bytes under a name made of them; returns the name.

    Raises:
        ValueError: There are no bytes of an image.
    """
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes) or not data:
        kind = "nothing" if data is None or data == b"" else f"{type(data).__name__}"
        raise ValueError(f"field 'image' holds no bytes of an image, but {kind}")
    suffix = next((end for magic, end in _MAGIC.items() if data.startswith(magic)), None)
    if suffix is None or len(data) > MAX_BYTES:
        raise ValueError("field 'image' is not a JPEG, PNG, GIF, BMP, TIFF or WebP")
    name = hashlib.sha256(data).hexdigest()[:24] + suffix
    if not (folder / name).exists():
        with atomic_open(folder / name, "wb") as file:
            file.write(data)
    return name


def _converter(file: Path, options: ReadOptions, source: str, elsewhere: set[str]) -> Converter:
    """For one file; ``elsewhere`` are the ids of the files before it, and grows."""
    table = TableRows(options.notes, source, split_of(file), f"{source}-{file.stem}")
    folder = options.image_dir or Path()
    earlier = frozenset(elsewhere)

    def convert(number: int, row: dict[str, Any]) -> dict[str, Any]:
        columns = find_columns(row)
        if missing := missing_columns(columns):
            raise ValueError(f"the columns are {', '.join(row)}; missing: {missing}")
        fields = table.convert(number, row, _store(row[columns["image"]], folder))
        if fields["id"] in earlier:  # published splits often count from 0 each
            options.notes.add(ID_TWICE, file.name)
            fields["id"] = f"{file.stem}-{fields['id']}"
        elsewhere.add(fields["id"])
        return fields

    return convert


def _open(file: Path) -> Any:
    """The file as a streaming table, its images left as bytes."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("datasets", "data") from error
    torch_available = datasets.config.TORCH_AVAILABLE
    try:
        # A table that can go into a DataLoader costs an import of torch, 250 MB, for nothing here.
        datasets.config.TORCH_AVAILABLE = "torch" in sys.modules
        table = datasets.IterableDataset.from_parquet(str(file), batch_size=ROWS_AT_ONCE)
        for name, kind in (table.features or {}).items():
            if isinstance(kind, datasets.Image):
                table = table.cast_column(name, datasets.Image(decode=False))
        return table
    finally:
        datasets.config.TORCH_AVAILABLE = torch_available


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(_open(file), start=1)
    except BioD2CError:
        raise
    except Exception as error:  # pyarrow and datasets raise their own families
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{file} is not a readable parquet file ({reason})", "Download it again."
        ) from error


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
        yield from convert_rows(file, _rows(file), convert, None, options.notes)


FORMAT = Format(
    name="hub-parquet",
    layout="*.parquet, or data/*.parquet, of image (its bytes), question, answer, any field of a record",
    detect=lambda path: bool(_files(path)),
    read=_read,
    image_root=folder_of,
    holds_images=True,
)
