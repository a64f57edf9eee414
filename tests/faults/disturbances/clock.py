"""The clock goes back a day at a random moment, and the command is killed at another.

A process cannot set the clock back for itself alone, so ``time.time`` is, and what was written until
then is dated a day ahead, as it looks to whoever reads it afterwards.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial

from running import Ended

from disturbances import Attempt, Disturbance

_DAY = 86400


def _set_back(seconds: float) -> None:
    """Let the clock go back after some seconds."""
    real, began = time.time, time.monotonic()

    def now() -> float:
        return real() - (_DAY if time.monotonic() - began > seconds else 0)

    time.time = now
    time.time_ns = lambda: int(now() * 1e9)


def _disturb(attempt: Attempt) -> list[Ended]:
    running = attempt.start(partial(_set_back, attempt.moment()))
    running.after(attempt.moment(), lambda: running.kill(signal.SIGKILL))
    ended = running.wait()
    for path in attempt.out.rglob("*"):
        at = path.stat()
        os.utime(path, ns=(at.st_atime_ns + _DAY * 10**9, at.st_mtime_ns + _DAY * 10**9))
    return [ended]


DISTURBANCES = (Disturbance("clock set back", _disturb, frozenset({0, -signal.SIGKILL})),)
