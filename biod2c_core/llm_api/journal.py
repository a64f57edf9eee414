"""An append-only file of what was asked and answered, so that nothing is paid twice."""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from biod2c_core.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs on one journal are not told apart
    fcntl = None  # type: ignore[assignment]

_SYNC_EVERY = 1.0  # seconds; a killed process loses nothing, a power cut at most this much


def request_key(*parts: Any) -> str:
    """A stable name for a request: the hash of what it is made of."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """One JSON object a line; an entry counts once its line is complete.

    Entries with a ``key`` are outcomes of requests and can be looked up; entries without one only
    add to ``spent``. Opening repairs a line cut off by a kill and locks the file, so that two runs
    never pay for the same work.

    Args:
        path: The file; created with its folder where missing.

    Raises:
        InputError: Another run has it open, or a line is not JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._entries: dict[str, dict[str, Any]] = {}
            self.spent = 0.0
            self._load()
        except BaseException:
            os.close(self._file)
            raise
        self._synced = time.monotonic()
        self._syncer = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a request, or None."""
        return self._entries.get(key)

    def add(self, entry: dict[str, Any]) -> None:
        """Write an entry, then count it.

        Args:
            entry: JSON object; ``key`` names the request, ``cost`` is in US dollars.
        """
        line = json.dumps(entry, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self._syncer.submit(os.fsync, self._file)  # a busy disk must not hold up the requests
            self._synced = time.monotonic()
        self._count(entry)

    def close(self) -> None:
        """Make everything durable and let the file go."""
        if self._file >= 0:
            self._syncer.shutdown()
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def _count(self, entry: dict[str, Any]) -> None:
        if "key" in entry:
            self._entries[entry["key"]] = entry
        self.spent += float(entry.get("cost") or 0.0)

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{self.path} is in use by another run", "Wait for it, or give another output."
            ) from error

    def _load(self) -> None:
        complete = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                complete += len(line)
                try:
                    self._count(json.loads(line))
                except (ValueError, TypeError, AttributeError, RecursionError) as error:
                    raise InputError(
                        f"{self.path}:{number}: not an entry of a journal",
                        "Remove that line, or the file to start over (and pay again).",
                    ) from error
        os.ftruncate(self._file, complete)
