"""No more address space than the process has when its command begins, and a random margin.

The margin is between 1 MB and 1 GB, small ones as often as large ones. Libraries written in C and Rust may
abort where they get no memory; then the system ends the process.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from running import Ended

from disturbances import Attempt, Disturbance


def _disturb(attempt: Attempt) -> list[Ended]:
    margin = int(10 ** attempt.random.uniform(6, 9))

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * os.sysconf("SC_PAGE_SIZE") + margin
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    return [attempt.start(limit).wait()]


_ABORTED = (-signal.SIGABRT, -signal.SIGSEGV)
DISTURBANCES = (Disturbance("little memory", _disturb, frozenset({0, 1, 2, 3, *_ABORTED})),)
