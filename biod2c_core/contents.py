"""Checksums of whole files: one that has been read is not read again while it stays as it is."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from biod2c_core.append_log import AppendLog
from biod2c_core.atomic import write_json
from biod2c_core.foreign import read_json

CACHE_FILE = "checksums.json"
_REMEMBERED = (
    64 * 2**20
)  # bytes: what is shorter is read sooner than a file in the home folder helps
_MOST_REMEMBERED = 1000
_SETTLED = 2.0  # seconds: what was changed just now may change again without a new time
_READERS = 8  # hashing lets other threads run

_known: dict[str, tuple[list[int], str]] = {}  # of this process: path to state and checksum


def cache_folder() -> Path:
    """``$BIOD2C_CACHE``, by default ``~/.cache/biod2c``."""
    return Path(os.environ.get("BIOD2C_CACHE", Path.home() / ".cache" / "biod2c"))


def file_checksum(path: str | Path) -> str:
    """SHA-256 of all bytes of a file, in hexadecimal.

    That of a large file is remembered in ``checksums.json`` of :func:`cache_folder`, for as long as the
    file keeps its size, times and inode.

    Raises:
        OSError: It cannot be read, or is a device or a pipe.
    """
    name = os.path.realpath(path)
    state = _state(name)
    kept = _known.get(name) or (_read_cache().get(name) if state[0] >= _REMEMBERED else None)
    if kept is not None and list(kept[0]) == state:
        return str(kept[1])
    digest = _read(name)
    settled = time.time() - max(state[1], state[2]) / 1e9 > _SETTLED
    if settled and state == _state(name):
        _known[name] = (state, digest)
        if state[0] >= _REMEMBERED:
            _remember(name, state, digest)
    return digest


def pictures_checksum(pictures: Iterable[tuple[str, Path]]) -> str | None:
    """One checksum over pictures, whatever their order; each file is read once.

    Args:
        pictures: By what name each is known, and its file.

    Returns:
        64 hexadecimal digits; None where a file cannot be read, and nothing can be said.
    """
    named = list(pictures)
    files = list(dict.fromkeys(path for _, path in named))
    try:
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(files, pool.map(file_checksum, files), strict=True))
    except (OSError, ValueError):
        return None
    digest = hashlib.sha256()
    for line in sorted({f"{found[path]} {name}\n" for name, path in named}):
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


class ChecksumLog:
    """Checksums of many files, each of which one process reads, for all that share the log.

    As with :func:`file_checksum`, one is believed for as long as the file keeps its size, times and
    inode.

    Args:
        log: Held by this process; gets a line for each file that had to be read.
    """

    def __init__(self, log: AppendLog) -> None:
        self._log = log
        self._logged: dict[str, tuple[list[int], str]] = {}
        for _, row in log.rows():
            with suppress(TypeError, ValueError):  # a line that is damaged costs time only
                name, state, digest = row
                self._logged[name] = (list(state), str(digest))
        _known.update(self._logged)

    def __call__(self, path: str | Path) -> str:
        """:func:`file_checksum`."""
        digest = file_checksum(path)
        name = os.path.realpath(path)
        kept = _known.get(name)
        if kept is not None and kept[1] == digest and kept != self._logged.get(name):
            self._logged[name] = kept
            self._log.append([[name, *kept]])
        return digest


def _read(name: str) -> str:
    digest, buffer = hashlib.sha256(), bytearray(2**20)
    with Path(name).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _state(name: str) -> list[int]:
    status = os.stat(name)  # noqa: PTH116 (the path may hold bytes that are no text)
    if not stat.S_ISREG(status.st_mode):  # a device or a pipe, which may have no end
        raise OSError(errno.EINVAL, "not a regular file", name)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read_cache() -> dict[str, Any]:
    with suppress(OSError, ValueError):
        value = read_json(cache_folder() / CACHE_FILE)
        if isinstance(value, dict):
            return {
                name: kept
                for name, kept in value.items()
                if isinstance(kept, list) and len(kept) == 2 and isinstance(kept[0], list)
            }
    return {}


def _remember(name: str, state: list[int], digest: str) -> None:
    kept = _read_cache()
    kept.pop(name, None)
    kept[name] = [state, digest]  # the newest last
    with suppress(OSError):  # a home folder that cannot be written costs time only
        write_json(cache_folder() / CACHE_FILE, dict(list(kept.items())[-_MOST_REMEMBERED:]))
