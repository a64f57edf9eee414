"""Killed at a random moment, and what the command reads is changed before it is run again.

It must then do what it does with the changed inputs from the start, or refuse with one line; given the
old inputs again, it must go on as if nothing had happened.
"""

from __future__ import annotations

import signal

from running import Ended, nothing

from disturbances import Attempt, Disturbance


def _disturb(attempt: Attempt) -> list[Ended]:
    running = attempt.start(nothing)
    running.after(attempt.moment(), lambda: running.kill(signal.SIGKILL))
    ended = running.wait()
    attempt.change()
    return [ended]


DISTURBANCES = (
    Disturbance(
        "changed inputs",
        _disturb,
        frozenset({0, -signal.SIGKILL}),
        undo=lambda attempt: attempt.restore(),
        changes=True,
    ),
)
