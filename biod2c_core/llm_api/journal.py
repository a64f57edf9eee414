"""An append-only file of what was asked and answered, so that nothing is paid twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from biod2c_core.append_log import AppendLog
from biod2c_core.errors import InputError

_SYNC_EVERY = 1.0  # seconds; a killed process loses nothing, a power cut at most this much


def request_key(*parts: Any) -> str:
    """A stable name for a request: the hash of what it is made of."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """One JSON object a line, in an :class:`AppendLog`; an entry counts once its line is complete.

    Entries with a ``key`` are outcomes of requests and can be looked up; entries without one only
    add to ``spent``. Two runs never pay for the same work: the second is turned away.

    Args:
        path: The file; created with its folder where missing.

    Raises:
        InputError: Another run has it open, or a line is not JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries: dict[str, dict[str, Any]] = {}
        self.spent = 0.0
        self._log = AppendLog(self.path, sync_every=_SYNC_EVERY)
        try:
            self._load()
        except BaseException:
            self._log.close()
            raise

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
        self._log.append([entry])
        self._count(entry)

    def close(self) -> None:
        """Make everything durable and let the file go."""
        self._log.close()

    def _count(self, entry: dict[str, Any]) -> None:
        if "key" in entry:
            self._entries[entry["key"]] = entry
        self.spent += float(entry.get("cost") or 0.0)

    def _load(self) -> None:
        for number, entry in self._log.rows():
            try:
                self._count(entry)
            except (ValueError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{self.path}:{number}: not an entry of a journal",
                    "Remove that line, or the file to start over (and pay again).",
                ) from error
