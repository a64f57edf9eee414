"""Disturbs commands, runs them again, and checks that all is as if nothing had happened."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cases import Case, digest
from disturbances import Attempt, Disturbance
from endpoint import Endpoint
from running import Ended, Running, in_child, nothing

COMPLETE = "exists already"  # of a command that never replaces what it has made
_STOPPED = (130, 143)
_STACKS = 6000  # characters of a report on a process that hung


@dataclass(frozen=True)
class Undisturbed:
    """What a command does when it is left alone.

    Attributes:
        result: What it makes.
        changed: What it makes of changed inputs.
        whole: Digests of the files that are whole from the start, by name.
        seconds: How long it takes.
        largest: Bytes of the largest file that it writes.
        asked: Answers that it asks for.
    """

    result: Any
    changed: Any
    whole: dict[str, str]
    seconds: float
    largest: int
    asked: int


class Harness:
    """Keeps what happened.

    Attributes:
        counts: Runs, by command and disturbance.
        ends: How disturbed processes ended, by command, disturbance and kind.
        violations: What must not have happened.
    """

    def __init__(self, root: Path, seed: int, endpoint: Endpoint) -> None:
        self.root, self.random, self.endpoint = root, random.Random(seed), endpoint
        self.undisturbed: dict[str, Undisturbed] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[tuple[str, str, str]] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []

    def measure(self, case: Case) -> None:
        """Run a case undisturbed: with changed inputs, which also warms this process up, and as meant."""
        name = case.name.replace(" ", "-")
        changed, _, _ = self._undisturbed(case, f"changed-{name}", change=True)
        before = self.endpoint.asked()
        result, out, seconds = self._undisturbed(case, f"whole-{name}", change=False)
        asked = self.endpoint.asked() - before
        if result == changed:
            raise SystemExit(f"{case.name}: changed inputs change nothing")
        files = [path for path in out.rglob("*") if path.is_file()]
        largest = max(path.stat().st_size for path in files)
        held = {str(path.relative_to(out)): digest(path) for path in _whole(case, out)}
        if case.before is not None:
            asked = 0
        self.undisturbed[case.name] = Undisturbed(result, changed, held, seconds, largest, asked)

    def _undisturbed(self, case: Case, name: str, change: bool) -> tuple[Any, Path, float]:
        attempt, arguments = self._attempt(case, name, 0.0, 0)
        if change:
            in_child(attempt.change, "changed inputs")
        modules = self.root / "modules"
        running = Running(arguments, modules=modules)
        ended = running.wait()
        self._after(case, attempt)
        if ended.code:
            raise SystemExit(f"{case.name} undisturbed: {ended}")
        for module in modules.read_text().splitlines():
            with suppress(Exception):
                importlib.import_module(module)
        return case.result(attempt.out), attempt.out, running.seconds

    def _attempt(
        self, case: Case, name: str, seconds: float, largest: int
    ) -> tuple[Attempt, list[object]]:
        """A folder with inputs of its own; files that nobody changes are shared."""
        folder = self.root / name
        read, out = folder / "in", folder / "out"
        out.mkdir(parents=True)
        restore = partial(self._give, case, read)
        restore()
        arguments = case.arguments(read, out)

        def prepare() -> None:
            case.copy(read, out)
            if case.before is not None:
                self._must(case.before(read, out))

        prepare()
        attempt = Attempt(
            start=lambda child: Running(arguments, child),
            prepare=prepare,
            change=lambda: in_child(lambda: case.change(read), "changed inputs"),
            restore=restore,
            inputs=read,
            out=out,
            seconds=seconds,
            largest=largest,
            random=self.random,
        )
        return attempt, arguments

    def _give(self, case: Case, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name in case.reads:
            held = self.root / "inputs" / name
            if held.is_dir():
                shutil.copytree(held, place / name, copy_function=os.link)
            else:
                os.link(held, place / name)

    def _must(self, arguments: list[object]) -> None:
        ended = Running(arguments).wait()
        if ended.code:
            raise SystemExit(f"{arguments[:3]}: {ended}")

    def _after(self, case: Case, attempt: Attempt) -> None:
        if case.after is not None:
            self._must(case.after(attempt.inputs, attempt.out))

    def disturb(self, case: Case, how: Disturbance, number: int) -> None:
        """One disturbed run, and the same command again."""
        was = self.undisturbed[case.name]
        attempt, _ = self._attempt(case, str(number), was.seconds, was.largest)
        self.counts[case.name, how.name] += 1
        complain = partial(self._complain, f"run {number}, {case.name}, {how.name}")
        found = len(self.violations)
        before = self.endpoint.asked()
        ended = how.disturb(attempt)
        for each in ended:
            self.ends[case.name, how.name, _kind(each)] += 1
            self.codes[how.name, _code(each)] += 1
            _check_end(each, how, complain)
        asked = self.endpoint.asked() - before
        kept = case.kept(attempt.out, asked) if attempt.out.is_dir() else 0
        self._check_left(case, how, attempt, ended, complain)
        if how.keeps and attempt.out.is_dir() and asked - kept > case.in_flight:
            complain(f"{asked} answers asked for, {kept} kept")
        if not self._again(case, how, attempt, complain):
            return
        more = self.endpoint.asked() - before - asked
        if how.keeps and attempt.out.is_dir() and more > was.asked - kept + how.changes:
            complain(f"{more} more answers asked for, though {kept} of {was.asked} were kept")
        if len(self.violations) == found:
            shutil.rmtree(attempt.out.parent)

    def _again(
        self, case: Case, how: Disturbance, attempt: Attempt, complain: Callable[[str], None]
    ) -> bool:
        """Run the command again, before and after what disturbs is undone; whether it ended well."""
        was = self.undisturbed[case.name]
        if how.lasts:
            ended = attempt.start(how.child).wait()
            if ended.code == 0 and attempt.out.is_dir():
                expected = was.changed if how.changes else was.result
                self._compare(case, attempt, expected, complain)
                if how.changes:
                    return True
            elif COMPLETE not in ended.said:
                _check_end(ended, how, lambda text: complain(f"again: {text}"))
            how.undo(attempt)
        ended = attempt.start(nothing).wait()
        if ended.code and COMPLETE not in ended.said:
            complain(f"again: code {ended.code}: {ended.said[-_STACKS if ended.hung else -400 :]}")
            return False
        self._compare(case, attempt, was.result, complain)
        return True

    def _compare(
        self, case: Case, attempt: Attempt, expected: Any, complain: Callable[[str], None]
    ) -> None:
        try:
            self._after(case, attempt)
            found = case.result(attempt.out)
        except (OSError, ValueError, SystemExit) as error:
            found = repr(error)
        if found != expected:
            complain(f"another result: {str(found)[:200]}")

    def _check_left(
        self,
        case: Case,
        how: Disturbance,
        attempt: Attempt,
        ended: list[Ended],
        complain: Callable[[str], None],
    ) -> None:
        """Nothing half written, and no temporary file unless the command could not remove it."""
        out = attempt.out if attempt.out.is_dir() else attempt.aside
        if not out.is_dir():
            return
        could = not how.lasts and not any(each.code < 0 for each in ended)
        if could and (left := _temporary(out)):
            complain(f"left behind: {left}")
        whole = self.undisturbed[case.name].whole
        for path in _whole(case, out):
            if digest(path) != whole.get(str(path.relative_to(out))):
                complain(f"half written: {path.name}")

    def _complain(self, where: str, what: str) -> None:
        self.violations.append(f"{where}: {' '.join(what.split())}")
        print("VIOLATION", self.violations[-1], flush=True)


def _whole(case: Case, out: Path) -> list[Path]:
    found = (path for pattern in case.whole for path in out.glob(pattern))
    return sorted(path for path in found if path.is_file() and path.name[0] != ".")


def _temporary(out: Path) -> list[str]:
    """Temporary files; journals that the next run goes on with are none."""
    return [
        path.name
        for path in out.rglob(".*.partial")
        if len(path.name.split(".")) > 3 and len(path.name.split(".")[-2]) == 8
    ]


def _kind(ended: Ended) -> str:
    if ended.code == 0:
        return "finished"
    return "stopped" if ended.code < 0 or ended.code in _STOPPED else "one line"


def _code(ended: Ended) -> str:
    return signal.Signals(-ended.code).name if ended.code < 0 else f"code {ended.code}"


def _check_end(ended: Ended, how: Disturbance, complain: Callable[[str], None]) -> None:
    if ended.hung:
        complain(f"hung: {ended.said[-_STACKS:]}")
        return
    lines = [line for line in ended.said.splitlines() if "rror" in line]
    bad = any(word in ended.said for word in ("Traceback", "This is a bug", "unexpected"))
    told = ended.code in (0, *_STOPPED) or ended.code < 0 or len(lines) == 1
    if ended.code not in {*how.codes, *({1, 2} if how.changes else ())} or bad or not told:
        complain(f"code {ended.code}: {ended.said[-400:]}")
