"""The folder of the output read-only from a random moment on.

The system lets root write everywhere, by a capability that the command's process gives up first.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from running import Ended

from disturbances import Attempt, Disturbance

_OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_VERSION = 0x20080522  # of what capget and capset are given: two sets of three words


def _as_others() -> None:
    """Let permissions count for root too."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~_OVERRIDES
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def _each(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


def _lock(attempt: Attempt) -> None:
    for path in reversed(_each(attempt.out)):
        try:
            path.chmod(0o555 if path.is_dir() else 0o444)
        except FileNotFoundError:  # a temporary file that has gone
            continue


def _unlock(attempt: Attempt) -> None:
    for path in _each(attempt.out):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _disturb(attempt: Attempt) -> list[Ended]:
    running = attempt.start(_as_others)
    running.after(attempt.moment(), lambda: _lock(attempt))
    return [running.wait()]


DISTURBANCES = (
    Disturbance("read-only", _disturb, frozenset({0, 1, 2, 3}), undo=_unlock, child=_as_others),
)
