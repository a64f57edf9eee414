"""SIGKILL, SIGTERM and Ctrl-C at a random moment."""

from __future__ import annotations

import signal

from running import Ended, nothing

from disturbances import Attempt, Disturbance


def _disturbance(number: signal.Signals, *codes: int) -> Disturbance:
    def disturb(attempt: Attempt) -> list[Ended]:
        running = attempt.start(nothing)
        running.after(attempt.moment(), lambda: running.kill(number))
        return [running.wait()]

    return Disturbance(number.name, disturb, frozenset({0, -number, *codes}))


DISTURBANCES = (
    _disturbance(signal.SIGKILL),
    _disturbance(signal.SIGTERM, 143),
    _disturbance(signal.SIGINT, 130),
)
