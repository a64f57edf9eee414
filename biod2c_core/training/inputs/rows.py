"""Rows of numbers of different length, in files that processes map: they share its memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from biod2c_core.data.records import Record, parse_record

_BATCH = 2**16  # numbers that are written together


class Rows:
    """Rows that :class:`RowWriter` has written; a process that is given them maps the files anew.

    Args:
        folder: Where they lie.
        name: Of the rows.
        code: Type of the numbers, as in the standard library's ``array``: ``i``, ``f`` or ``B``.
    """

    def __init__(self, folder: Path, name: str, code: str = "i") -> None:
        self._given = (folder, name, code)
        flat, ends = _files(folder, name)
        self.flat = _map(flat, code)  # one after the other
        self._ends = _map(ends, "q")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Rows, self._given)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> list[Any]:
        return self.flat[self._ends[index] : self._ends[index + 1]].tolist()

    def __iter__(self) -> Iterator[list[Any]]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> list[int]:
        """Of the rows."""
        return np.diff(self._ends).tolist()


class RowWriter:
    """Writes rows, one after the other; the files are whole once it is closed.

    Args:
        folder: For the files.
        name: Of the rows.
        code: As in :class:`Rows`.
    """

    def __init__(self, folder: Path, name: str, code: str = "i") -> None:
        self._flat, self._ends = (path.open("wb") for path in _files(folder, name))
        self._numbers, self._places = array(code), array("q", [0])
        self._written = 0

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush()
        self._flat.close()
        self._ends.close()

    def add(self, row: Iterable[Any]) -> None:
        """Write a row."""
        if isinstance(row, bytes):
            self._numbers.frombytes(row)  # extend() would take them one by one
        else:
            self._numbers.extend(row)
        self._places.append(self._written + len(self._numbers))
        if len(self._numbers) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._written += len(self._numbers)
        for file, values in ((self._flat, self._numbers), (self._ends, self._places)):
            values.tofile(file)
            del values[:]


class StoredRecords(Sequence[Record]):
    """Records as JSON in mapped files, of which each is made when it is asked for.

    Args:
        folder: Where their lines have been written, as rows of bytes.
    """

    NAME, CODE = "records", "B"

    def __init__(self, folder: Path) -> None:
        self._lines = Rows(folder, self.NAME, self.CODE)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return parse_record(json.loads(bytes(self._lines[index % len(self)])))

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.flat", folder / f"{name}.ends"


def _map(path: Path, code: str) -> np.ndarray:
    if not path.stat().st_size:  # nothing to map
        return np.zeros(0, np.dtype(code))
    return np.memmap(path, np.dtype(code), "r")
