"""A disk that is full at a random byte: no file may grow beyond it."""

from __future__ import annotations

import resource

from running import Ended

from disturbances import Attempt, Disturbance


def _disturb(attempt: Attempt) -> list[Ended]:
    size = int(attempt.largest ** attempt.random.uniform(0, 1))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return [attempt.start(limit).wait()]


DISTURBANCES = (Disturbance("full disk", _disturb, frozenset({0, 1, 2, 3})),)
