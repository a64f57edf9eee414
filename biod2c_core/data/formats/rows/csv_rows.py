"""Read CSV row by row, going on after a bad one."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.fields.notes import ENCODING, Notes
from biod2c_core.data.formats.rows.text import WESTERN, bounded_lines, open_text
from biod2c_core.data.records import MAX_LINE_BYTES
from biod2c_core.errors import InputError, RecordError

MAX_FIELD = 1 << 20
SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t|"


def is_csv(path: Path) -> bool:
    """Whether a path is a file named as a table of texts."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def iter_csv(
    path: Path, notes: Notes | None = None, longest_field: int = MAX_FIELD
) -> Iterator[tuple[int, Any]]:
    """Decode the rows below the header as dicts of texts; blank rows are skipped.

    The delimiter (comma, semicolon, tab or bar) is the one that cuts the header into most columns, or
    is named by a first line ``sep=;``; the encoding is found as :func:`~.text.find_encoding` says.

    Args:
        path: The file.
        notes: Told of an encoding that was guessed.
        longest_field: In characters; a row with a longer one is a bad row.

    Yields:
        The line on which the row ends, and the row; for a row that cannot be read, or has more
        fields than the header, a ``ValueError``.

    Raises:
        InputError: The file cannot be opened or has no header.
        RecordError: The header is malformed.
    """
    file, encoding = open_text(path)
    with file:
        lines = bounded_lines(file, max(MAX_LINE_BYTES, 2 * longest_field))
        first, above = next(lines, ""), 0
        delimiter = ""
        if first.lower().startswith("sep=") and len(first.strip("\r\n")) == 5:
            delimiter, first, above = first[4], next(lines, ""), 1
        delimiter = delimiter or _delimiter(first)
        reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
        try:
            header = [name.strip() for name in next(reader, [])]
        except (csv.Error, ValueError) as error:
            raise RecordError(path, 1, f"the header is malformed: {error}") from error
        if not any(header):
            raise InputError(f"{path} has no header", "The first line must name the columns.")
        if twice := next((name for name in header if name and header.count(name) > 1), None):
            raise RecordError(path, 1 + above, f"two columns are named {twice!r}", "Rename one.")
        for line, row in _rows(reader, header, encoding, longest_field):
            if notes is not None and encoding == WESTERN:
                notes.add(ENCODING, f"{WESTERN}, {path.name}")
            yield line + above, row


def _delimiter(header: str) -> str:
    """The delimiter that cuts a header into most columns, the first of equals."""

    def columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter), []))
        except (csv.Error, ValueError):
            return 0

    return max(DELIMITERS, key=columns)


def _rows(
    reader: Any, header: list[str], encoding: str, longest_field: int
) -> Iterator[tuple[int, Any]]:
    while True:
        csv.field_size_limit(longest_field)  # of the process: another table may be read in between
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
        elif not encoding.startswith("utf-8") and "\ufffd" in "".join(values):
            yield reader.line_num, ValueError(f"bytes that are not {encoding}")
        elif "".join(values).strip():
            if len(values) < len(header):
                values += [""] * (len(header) - len(values))
            yield reader.line_num, dict(zip(header, values, strict=False))
