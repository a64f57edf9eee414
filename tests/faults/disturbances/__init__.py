"""What is done to a command. Each file here has ``DISTURBANCES``; a new one is found by being here."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from running import Ended, Running, nothing


@dataclass(frozen=True)
class Attempt:
    """A command in a folder of its own, to be disturbed.

    Attributes:
        start: Start the command, given what is done in its process first.
        prepare: Put into ``out`` what the command expects there.
        change: Change what it reads.
        restore: Give it again what it was meant to read.
        inputs: The folder of what it reads.
        out: The folder of what it writes.
        seconds: How long it takes undisturbed.
        largest: Bytes of the largest file that it writes.
        random: For all that is left to chance.
    """

    start: Callable[[Callable[[], None]], Running]
    prepare: Callable[[], None]
    change: Callable[[], None]
    restore: Callable[[], None]
    inputs: Path
    out: Path
    seconds: float
    largest: int
    random: random.Random

    def moment(self) -> float:
        """Seconds from the start; some lie after the end, for no two runs take as long."""
        return self.random.uniform(0, self.seconds)

    @property
    def aside(self) -> Path:
        """Where the output may wait."""
        return self.out.with_name("aside")


def _nothing(attempt: Attempt) -> None:
    """Leave everything."""


@dataclass(frozen=True)
class Disturbance:
    """One way of disturbing.

    Attributes:
        name: For the table.
        disturb: Starts the command and disturbs it; returns how each process ended.
        codes: That a disturbed process may end with; a code other than 0 needs one line, a signal none.
        undo: Takes away what still disturbs afterwards; until then the command may end with one line.
        child: Done in the process of a command that is run before ``undo``.
        keeps: What was made stays, so nothing may be paid for twice.
        changes: What the command reads is changed.
    """

    name: str
    disturb: Callable[[Attempt], list[Ended]]
    codes: frozenset[int]
    undo: Callable[[Attempt], None] = _nothing
    child: Callable[[], None] = nothing
    keeps: bool = True
    changes: bool = False

    @property
    def lasts(self) -> bool:
        """Whether something still disturbs when the command is run again."""
        return self.undo is not _nothing


def remove(folder: Path) -> None:
    """Remove a folder that somebody writes into, in one step."""
    gone = folder.with_name("gone")
    folder.rename(gone)
    shutil.rmtree(gone)


def all_disturbances() -> list[Disturbance]:
    """Of all files here, in the order of their names."""
    names = sorted(module.name for module in iter_modules(__path__))
    modules = [import_module(f"{__name__}.{name}") for name in names]
    return [each for module in modules for each in module.DISTURBANCES]
