"""A file of JSON lines that only grows, whole again after a kill at any byte.

Whoever opens one holds it alone. A last line that a kill has cut off is dropped; one that is complete
and only lacks its newline gets it. What is written is always UTF-8: halves of characters (lone
surrogates), which text of strangers may hold, are written as JSON spells them, so that they are read
back as they were.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from biod2c_core.atomic import NOT_UTF8, json_text, make_folder
from biod2c_core.errors import InputError
from biod2c_core.locks import hold

_BLOCK = 2**16  # bytes
_encode = json.JSONEncoder(  # dumps() would make one a line
    ensure_ascii=False, allow_nan=False, default=str
).encode


class AppendLog:
    """The file, open for appending, locked and repaired.

    Args:
        path: Created with its folder where missing.
        wait: Wait for another run that has it open, instead of refusing.
        sync_every: 0.0 makes every line durable before :meth:`append` returns; a number of seconds
            does so in the background, at most that often, and when the log is closed; None leaves it
            to :meth:`sync`. A kill costs nothing in any case, a power cut what is not durable.

    Raises:
        InputError: Another run has it open, or its end is not JSON.
    """

    def __init__(
        self, path: str | Path, *, wait: bool = False, sync_every: float | None = None
    ) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        self._file: IO[bytes] = self.path.open("a+b", buffering=0)
        try:
            lock_alone(self._file, self.path, wait)
            self._repair()
        except BaseException:
            self._file.close()
            raise
        self._sync_every = sync_every
        self._synced = time.monotonic()
        self._syncer = ThreadPoolExecutor(max_workers=1) if sync_every else None

    def __enter__(self) -> AppendLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def rows(self) -> Iterator[tuple[int, Any]]:
        """What it holds, as :func:`read_rows` gives it."""
        return read_rows(self.path)

    def append(self, values: Iterable[Any]) -> None:
        """Write a line for each value.

        Raises:
            OSError: The disk is full; the file is then as it was.
        """
        data = b"".join([_line(value) for value in values])
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:] if written else data)
        except BaseException:
            self._file.truncate(os.fstat(self._file.fileno()).st_size - written)
            raise
        if self._sync_every is None or time.monotonic() - self._synced < self._sync_every:
            return
        if self._syncer is None:
            self.sync()
        else:  # a busy disk must not hold up whoever writes
            self._syncer.submit(os.fsync, self._file.fileno())
        self._synced = time.monotonic()

    def keep(self, count: int) -> None:
        """Drop all lines but the first ``count``."""
        with self.path.open("rb") as file:
            self._file.truncate(sum(len(line) for line in islice(file, count)))

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let the file go; a second call does nothing."""
        if self._file.closed:
            return
        if self._syncer is not None:
            self._syncer.shutdown()
            self.sync()
        self._file.close()

    def _repair(self) -> None:
        start, tail = _last_line(self._file)
        if _is_complete(tail):
            self._file.write(b"\n")
        elif tail and tail[:1] not in b'{["\0':  # NUL: what a power cut may leave
            raise InputError(
                f"the last line of {self.path} is not JSON", "Give another output, or repair it."
            )
        elif tail:
            self._file.truncate(start)


def read_rows(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Read a log, also one that is being written; a last line that was cut off is left out.

    Yields:
        Line number (from 1) and the decoded value.

    Raises:
        InputError: The file cannot be read, or a line is not JSON; ``file:line`` is named.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed by the with below)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and not _is_complete(line):
                return
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                remedy = "Remove that line, or the file to start over."
                raise InputError(f"{path}:{number}: not JSON", remedy) from error
            yield number, value


def ends_torn(path: str | Path) -> bool:
    """Whether the last line was cut off, as by a kill while it was written."""
    with Path(path).open("rb") as file:
        tail = _last_line(file)[1]
    return bool(tail) and not _is_complete(tail)


def whole_characters(text: str) -> str:
    """The text with U+FFFD for halves of characters, which neither models nor endpoints take."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(value: Any) -> bytes:
    try:
        text = _encode(value)
    except ValueError:
        text = json_text(value)  # not-a-number becomes null
    return text.encode("utf-8", NOT_UTF8) + b"\n"


def _is_complete(line: bytes) -> bool:
    """Whether a line without newline holds all that was written: a number could go on."""
    try:
        return isinstance(json.loads(line), dict | list | str)
    except (ValueError, RecursionError):
        return False


def _last_line(file: IO[bytes]) -> tuple[int, bytes]:
    """Where what follows the last newline begins, and what it is."""
    start, tail = file.seek(0, os.SEEK_END), b""
    while start and b"\n" not in tail:
        size = min(max(_BLOCK, len(tail)), start)
        start = file.seek(start - size)
        tail = file.read(size) + tail
    begin = tail.rfind(b"\n") + 1
    return start + begin, tail[begin:]


def lock_alone(file: IO[bytes], path: Path, wait: bool = False) -> None:
    """Hold an open file alone until it is closed.

    Raises:
        InputError: Another run holds it, and ``wait`` is false.
    """
    if not hold(file, wait):
        raise InputError(f"{path} is in use by another run", "Wait for it, or give another output.")
