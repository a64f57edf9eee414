"""A file where the folder of the output should be, from the start or from a random moment on."""

from __future__ import annotations

from running import Ended, nothing

from disturbances import Attempt, Disturbance


def _put(attempt: Attempt) -> None:
    attempt.out.rename(attempt.aside)
    attempt.out.write_text("not a folder")


def _take(attempt: Attempt) -> None:
    if attempt.aside.exists():  # unless the command had ended before
        attempt.out.unlink()
        attempt.aside.rename(attempt.out)


def _at_the_start(attempt: Attempt) -> list[Ended]:
    _put(attempt)
    return [attempt.start(nothing).wait()]


def _in_the_middle(attempt: Attempt) -> list[Ended]:
    running = attempt.start(nothing)
    running.after(attempt.moment(), lambda: _put(attempt))
    return [running.wait()]


CODES = frozenset({0, 1, 2, 3})
DISTURBANCES = (
    Disturbance("file in the way", _at_the_start, CODES, undo=_take),
    Disturbance("folder becomes a file", _in_the_middle, CODES, undo=_take),
)
