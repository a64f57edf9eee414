"""The folder of the output removed at a random moment, with all that was in it."""

from __future__ import annotations

from running import Ended, nothing

from disturbances import Attempt, Disturbance, remove


def _disturb(attempt: Attempt) -> list[Ended]:
    running = attempt.start(nothing)
    running.after(attempt.moment(), lambda: remove(attempt.out))
    return [running.wait()]


def _again(attempt: Attempt) -> None:
    """What the command has made of the removed folder is its own; what it expects there is put back."""
    attempt.out.mkdir(exist_ok=True)
    attempt.prepare()


DISTURBANCES = (
    Disturbance("folder removed", _disturb, frozenset({0, 1, 2, 3}), undo=_again, keeps=False),
)
