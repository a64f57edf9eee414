"""Read CSV row by row, going on after a bad one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from biod2c_core.data.records import MAX_LINE_BYTES
from biod2c_core.errors import InputError, RecordError

MAX_FIELD = 1 << 20


def iter_csv(path: Path) -> Iterator[tuple[int, Any]]:
    """Decode the rows below the header as dicts of texts; blank rows are skipped.

    Yields:
        The line on which the row ends, and the row; for a row that cannot be read, or has more
        fields than the header, a ``ValueError``.

    Raises:
        InputError: The file cannot be opened or has no header.
        RecordError: The header is malformed.
    """
    try:
        # Bytes that are no UTF-8 become lone surrogates, which the check of a record refuses.
        file = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    csv.field_size_limit(MAX_FIELD)
    with file:
        reader = csv.reader(_bounded_lines(file))
        try:
            header = [name.strip() for name in next(reader, [])]
        except (csv.Error, ValueError) as error:
            raise RecordError(path, 1, f"the header is malformed: {error}") from error
        if not any(header):
            raise InputError(f"{path} has no header", "The first line must name the columns.")
        yield from _rows(reader, header)


def _rows(reader: Any, header: list[str]) -> Iterator[tuple[int, Any]]:
    while True:
        try:
            values = next(reader, None)
        except (csv.Error, ValueError) as error:
            yield reader.line_num, ValueError(f"not CSV: {error}")
            continue
        if values is None:
            return
        if len(values) > len(header):
            problem = f"{len(values)} fields where the header names {len(header)}"
            yield reader.line_num, ValueError(problem)
        elif any(value.strip() for value in values):
            yield reader.line_num, dict(zip(header, values, strict=False))


def _bounded_lines(file: IO[str]) -> Iterator[str]:
    """Lines of at most ``MAX_LINE_BYTES`` characters; a longer one is cut into several."""
    while line := file.readline(MAX_LINE_BYTES):
        yield line
