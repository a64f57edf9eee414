"""Read parquet row by row through the ``datasets`` library, images left as the bytes they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.errors import BioD2CError, InputError, MissingDependencyError

ROWS_AT_ONCE = 16


def _open(file: Path) -> Any:
    """The file as a streaming table."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("datasets", "data") from error
    torch_available = datasets.config.TORCH_AVAILABLE
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what fails is said by our own line
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


def iter_parquet(file: Path) -> Iterator[tuple[int, Any]]:
    """Decode the rows of a parquet file, in bounded memory.

    Yields:
        The number of the row, from 1, and the row.

    Raises:
        InputError: The file is not readable parquet.
        MissingDependencyError: The extra ``data`` is not installed.
    """
    try:
        yield from enumerate(_open(file), start=1)
    except BioD2CError:
        raise
    except Exception as error:  # pyarrow and datasets raise their own families
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{file} is not a readable parquet file ({reason})", "Download it again."
        ) from error


def parquet_columns(file: Path) -> set[str]:
    """The names of a parquet file's columns, for detection: empty where they cannot be read."""
    try:
        import pyarrow.parquet
    except ImportError:
        return set()
    try:
        return set(pyarrow.parquet.read_schema(file).names)
    except (OSError, ValueError, pyarrow.ArrowException):
        return set()
