"""At most 32 files open at once, and down to 8."""

from __future__ import annotations

import resource

from running import Ended

from disturbances import Attempt, Disturbance


def _disturb(attempt: Attempt) -> list[Ended]:
    number = attempt.random.randint(8, 32)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

    return [attempt.start(limit).wait()]


DISTURBANCES = (Disturbance("few descriptors", _disturb, frozenset({0, 1, 2, 3, 5})),)
