"""Open text files whatever program wrote them: UTF-8, UTF-16, or the code page of Western Windows."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from biod2c_core.data.records import MAX_LINE_BYTES, bom_encoding
from biod2c_core.errors import InputError

WESTERN = "cp1252"
MOST_SCANNED = 64 << 20
_CHUNK = 1 << 20
_HIGH = re.compile(rb"[\x80-\xff]+")
_UNDEFINED = frozenset(b"\x81\x8d\x8f\x90\x9d")


def find_encoding(path: Path) -> str:
    """The encoding of a text file: as its first bytes declare, else UTF-8 if it is, else a guess.

    Without a mark UTF-16 shows by its zero bytes. Bytes that are not UTF-8 are taken for Windows-1252
    where they stand alone among plain letters, as accents do, and nothing in the file is UTF-8;
    elsewhere the file counts as damaged UTF-8.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        if declared := bom_encoding(head[:4]):
            return declared
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) > len(head) // 8:
            return "utf-16-le" if odd > even else "utf-16-be"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        high: list[bytes] = []
        scanned, is_utf8 = 0, True
        while scanned < MOST_SCANNED and (chunk := file.read(_CHUNK)):
            scanned += len(chunk)
            if chunk.isascii() and is_utf8 and not high:
                continue
            high += _HIGH.findall(chunk)[: 10_000 - len(high)]
            if is_utf8:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    is_utf8 = False
            elif len(high) >= 10_000:
                break
    return "utf-8" if is_utf8 or not _looks_western(high) else WESTERN


def _looks_western(runs: list[bytes]) -> bool:
    """Whether runs of bytes above 127 are single accents, not damaged UTF-8 or another code page."""
    if not runs or any(_UNDEFINED & set(run) for run in runs):
        return False
    if sum(map(len, runs)) > 1.5 * len(runs):
        return False
    for run in runs:
        try:
            run.decode("utf-8")
        except UnicodeDecodeError:
            continue
        return False
    return True


def open_text(path: Path) -> tuple[IO[str], str]:
    """Open a text file, universal newlines off, and say its encoding.

    Bytes that do not decode become lone surrogates, which the check of a record refuses; in another
    encoding than UTF-8 they become U+FFFD, and :func:`~.csv_rows.iter_csv` refuses the row.

    Raises:
        InputError: The file cannot be opened.
    """
    try:
        encoding = find_encoding(path)
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        return path.open(encoding=encoding, errors=errors, newline=""), encoding
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error


def bounded_lines(file: IO[str], longest: int = MAX_LINE_BYTES) -> Iterator[str]:
    """The lines of a file, of at most so many characters; a longer one is cut into several."""
    while line := file.readline(longest):
        yield line


def cut_lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a text file that are not blank, cut at a delimiter; nothing is quoted.

    Yields:
        Line number, from 1, and the parts, without blanks around them.

    Raises:
        InputError: The file cannot be opened.
    """
    file, _ = open_text(path)
    with file:
        for number, line in enumerate(bounded_lines(file), start=1):
            if line.strip():
                yield number, [part.strip() for part in line.split(delimiter)]
