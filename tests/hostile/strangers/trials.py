"""A trick of a stranger's, and the command it is played on; how the two are run and judged."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from children import Done, Outcome, Said, outcome_of, run_command

SAME, REFUSED, EITHER = "same", "refused", "either"
HONEST = "honest"
CPU = ("--device", "cpu")


@dataclass(frozen=True)
class Place:
    """Where a trial happens.

    Attributes:
        folder: All that may be written.
        examples: What is honest, by name.
        url: Of the endpoint, where the stranger is one.
    """

    folder: Path
    examples: dict[str, Path]
    url: str = ""

    @property
    def theirs(self) -> Path:
        """What the stranger made."""
        return self.folder / "theirs"

    @property
    def out(self) -> Path:
        """Where the person wants results."""
        return self.folder / "out"

    @property
    def outside(self) -> Path:
        """What lies beside, and is nobody's business."""
        return self.folder / "outside"


@dataclass(frozen=True)
class Trick:
    """What a stranger does.

    Attributes:
        name: For the table.
        play: Changes the honest thing in a folder into the stranger's.
        bases: On which things it can be played; nothing: on all.
        expected: ``same``: the output must be that of the honest thing; ``refused``; or ``either``.
    """

    name: str
    play: Callable[[Path], object]
    bases: tuple[str, ...] = ()
    expected: str = EITHER


@dataclass(frozen=True)
class Command:
    """A command that reads what a stranger made.

    Attributes:
        name: For the table.
        reads: Its parameters that name what is the stranger's: ``ask.model``.
        arguments: Of ``biod2c``.
        base: The honest thing that tricks are played on, by its name among the examples.
        typed: What a person types, who says yes to every question.
        before: Of a command that is run first, while the stranger is still honest.
        writes: Files in the stranger's folder that it is there to write.
        until: What it says when it waits for people; it is given ``visit``, and Ctrl-C.
        steady: Whether its output is the same each time.
        refused: Whether an honest thing of this size is refused too.
        partly: Whether it reads a part of the thing only, and may not see what is to be refused.
    """

    name: str
    reads: tuple[str, ...]
    arguments: Callable[[Place], list[object]]
    base: str
    typed: str = "y\n" * 20
    before: Callable[[Place], list[object]] | None = None
    writes: tuple[str, ...] = ()
    until: str = ""
    visit: Callable[[Place, str], object] = field(default=lambda _place, _said: None)
    steady: bool = True
    refused: bool = False
    partly: bool = False


@dataclass(frozen=True)
class Stranger:
    """Somebody who makes things of one kind.

    Attributes:
        prepare: Makes the honest things, once.
        tricks: The first one is honest.
        commands: All that read such things.
        serve: Where the stranger is an endpoint: runs it, and gives its address.
    """

    prepare: Callable[[Path], dict[str, Path]]
    tricks: tuple[Trick, ...]
    commands: tuple[Command, ...]
    serve: Callable[[], Any] | None = None

    def trials(self) -> list[tuple[Trick, Command]]:
        """Every trick on every command that it can be played on."""
        return [
            (trick, command)
            for trick in self.tricks
            for command in self.commands
            if not trick.bases or command.base in trick.bases
        ]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything in a folder, links not followed."""
    found = {}
    for where, folders, files in os.walk(folder):
        for path in (Path(where) / name for name in (*folders, *files)):
            status = path.lstat()
            times = (0, 0) if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
            found[str(path.relative_to(folder))] = times
    return found


class Trials:
    """Runs trials in one process, which remembers what the honest thing gave."""

    def __init__(self, place: Place, honest: Trick, said: Said) -> None:
        self.place, self.honest, self.said = place, honest, said
        self._honest: dict[str, Done] = {}

    def prepare(self, trick: Trick, command: Command) -> Callable[[], Outcome]:
        """Lay out a trial; running it gives its outcome."""
        honest = None
        if trick.expected == SAME and command.steady and trick.name != HONEST:
            honest = self._honest.get(command.name) or self._done(command)
        self._lay_out(trick, command)
        return lambda: self._run(trick, command, honest)

    def _done(self, command: Command) -> Done:
        """What a command says about the honest thing."""
        self._lay_out(self.honest, command)
        self._honest[command.name] = self._call(command)
        return self._honest[command.name]

    def _lay_out(self, trick: Trick, command: Command) -> None:
        for each in (self.place.theirs, self.place.out, self.place.outside):
            shutil.rmtree(each, ignore_errors=True)
        self.place.out.mkdir()
        self.place.outside.mkdir()
        (self.place.outside / "secret.json").write_text('{"secret": "s3cr3t"}')
        shutil.copy(self.place.examples["picture"], self.place.outside / "secret.png")
        shutil.copytree(self.place.examples[command.base], self.place.theirs)
        self.honest.play(self.place.theirs)
        if command.before is not None:
            run_command(command.before(self.place), self.said)
        trick.play(self.place.theirs)

    def _call(self, command: Command) -> Done:
        arguments = command.arguments(self.place)
        with _typing(self.place.folder, command.typed), _visited(self.place, command):
            done = run_command(arguments, self.said)
        return replace(done, code=0) if command.until and done.code == 130 else done

    def _run(self, trick: Trick, command: Command, honest: Done | None) -> Outcome:
        before = listing(self.place.theirs), listing(self.place.outside)
        done = self._call(command)
        outcome = outcome_of(done, [command.name, trick.name])
        if outcome.verdict not in ("answered", REFUSED):
            return outcome
        after = listing(self.place.theirs), listing(self.place.outside)
        changed = {
            name for old, new in zip(before, after, strict=True) for name in old.keys() ^ new
        }
        changed |= {
            name
            for old, new in zip(before, after, strict=True)
            for name in old.keys() & new
            if old[name] != new[name]
        }
        if changed := changed - set(command.writes):
            return Outcome("written elsewhere", f"changed: {sorted(changed)[:5]}")
        if "s3cr3t" in done.out + done.err:
            return Outcome("told a secret", (done.out + done.err)[-500:])
        if (
            trick.name == HONEST
            and (outcome.verdict == REFUSED and done.code != 3) != command.refused
        ):
            return Outcome("honest refused", outcome.detail)
        if trick.expected == REFUSED and outcome.verdict == "answered" and not command.partly:
            return Outcome("not refused", done.out[-500:])
        if honest is not None and _without_times(done) != _without_times(honest):
            return Outcome("another output", f"{done.code}: {done.out[-300:]} {done.err[-300:]}")
        return outcome


def _without_times(done: Done) -> tuple[object, str]:
    return done.code, re.sub(r'"seconds": [0-9.e-]+', "", done.out)


@contextmanager
def _typing(folder: Path, text: str) -> Iterator[None]:
    """Standard input holds a text."""
    path = folder / ".typed"
    path.write_text(text)
    before, number = sys.stdin, os.dup(0)
    with path.open() as file:
        os.dup2(file.fileno(), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (put back below)
    try:
        yield
    finally:
        sys.stdin = before
        os.dup2(number, 0)
        os.close(number)


@contextmanager
def _visited(place: Place, command: Command) -> Iterator[None]:
    """Waits, where a command serves people, until it does; visits it, and ends it by Ctrl-C."""
    if not command.until:
        yield
        return
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.05):
            said = "".join(
                (place.folder / name).read_text(errors="replace") for name in (".out", ".err")
            )
            if command.until in said:
                try:
                    command.visit(place, said)
                finally:
                    while not over.wait(0.5):
                        os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        while thread.is_alive():  # a Ctrl-C that comes too late
            try:
                thread.join()
            except KeyboardInterrupt:
                time.sleep(0.01)
