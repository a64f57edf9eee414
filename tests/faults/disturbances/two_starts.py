"""The same command started again while it runs."""

from __future__ import annotations

import time

from running import Ended, nothing

from disturbances import Attempt, Disturbance


def _disturb(attempt: Attempt) -> list[Ended]:
    first = attempt.start(nothing)
    time.sleep(attempt.random.uniform(0, 0.5 * attempt.seconds))
    second = attempt.start(nothing)
    return [first.wait(), second.wait()]


DISTURBANCES = (Disturbance("two starts", _disturb, frozenset({0, 2})),)
