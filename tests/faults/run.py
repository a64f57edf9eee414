"""Disturb long commands at random, run them again, and see whether all is as if nothing had happened.

``python tests/faults/run.py --runs 500`` prints a table; the exit code is 1 if anything was violated. Each
run starts a command in a new folder, disturbs it, and then runs the same command again until it has ended
well. The command must then have made what it makes undisturbed. A disturbed command must end by the
disturbance itself, or with one line that says what to do: no traceback, no bug, nothing half written.
Processes are forked from this one, which has imported everything.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OPENAI_API_KEY", "sk-none")

_MODULES = (
    *("biod2c_core", "biod2c_core.training.train", "biod2c_core.evaluation.evaluate"),
    *("biod2c_core.model.checkpoints.export", "biod2c_core.curation.filter_images.filter"),
    *("transformers.models.llama.modeling_llama", "peft", "timm", "torchvision", "tiny_models"),
    *("openai", "biod2c_cli.commands.train", "biod2c_cli.commands.evaluate"),
)
_ASKS = (signal.SIGINT, signal.SIGTERM)
_ATTEMPTS = 3  # of the same command after the disturbance
_LIMIT = 240.0  # seconds of a process
DISTURBANCES = ("SIGKILL", "SIGTERM", "SIGINT", "full disk", "two starts", "file in the way")


class Running:
    """A command in a forked process."""

    def __init__(self, arguments: Sequence[object], files: int | None = None) -> None:
        self._said, self._says = os.pipe()  # a limit on the size of files would cut off a file
        os.set_blocking(self._said, False)
        self.began = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)  # the child must never unwind into main()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments, files)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)
        os.close(self._says)

    def _become(self, arguments: Sequence[object], files: int | None) -> None:
        code = 1
        try:
            self._prepare(files)
            sys.argv = ["biod2c", *map(str, arguments)]
            from biod2c_cli.app import main

            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except KeyboardInterrupt:  # before the command has begun
            code = 130
        except BaseException as error:
            print(f"Traceback: {error!r}", file=sys.stderr)
        finally:
            os._exit(code or 0)

    def _prepare(self, files: int | None) -> None:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(self._says, 2)
        if files is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))

    def wait(self) -> tuple[int, str]:
        """Code, negative for a signal, and what it said."""
        while True:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() - self.began > _LIMIT:
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.005)
        self.seconds = time.monotonic() - self.began
        text = b""
        with suppress(BlockingIOError):  # a worker may still hold the other end
            while part := os.read(self._said, 2**16):
                text += part
        os.close(self._said)
        return os.waitstatus_to_exitcode(status), text.decode("utf-8", "replace")

    def signal_after(self, seconds: float, number: int) -> None:
        """Wait for the moment, unless the process ends before, and signal it."""
        while time.monotonic() - self.began < seconds:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.002)
        os.kill(self.pid, number)


def _in_child(work: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            work()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the inputs cannot be made")


@contextmanager
def _endpoint(inputs: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "biod2c_core.testing", "--port", "0", "--latency", "0.03"]
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as server:
        assert server.stdout is not None
        (inputs / "endpoint").write_text(server.stdout.readline().strip())
        try:
            yield
        finally:
            server.kill()


class Harness:
    """Runs disturbed commands and keeps what happened."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.inputs = root / "inputs"
        self.undisturbed: dict[str, tuple[Any, float, int]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []

    def measure(self, case: Any) -> None:
        """Run a case as it is meant, for its result, its time and its largest file."""
        out = self.root / "whole" / case.name.replace(" ", "-")
        out.mkdir(parents=True)
        running = Running(case.arguments(self.inputs, out))
        code, said = running.wait()
        if code:
            raise SystemExit(f"{case.name} undisturbed: code {code}: {said}")
        largest = max(path.stat().st_size for path in out.rglob("*") if path.is_file())
        self.undisturbed[case.name] = (case.result(out), running.seconds, largest)

    def disturb(self, case: Any, how: str, number: int) -> None:
        """One disturbed run, and the same command again."""
        out = self.root / f"{number}"
        out.mkdir()
        expected, seconds, largest = self.undisturbed[case.name]
        arguments = case.arguments(self.inputs, out)
        where = f"run {number}, {case.name}, {how}"
        self.counts[case.name, how] += 1
        ended = self._once(arguments, out, how, seconds, largest)
        for code, said in ended:
            self.ends[how, self._kind(code)] += 1
            self._check_end(where, how, code, said)
        if how != "SIGKILL" and (left := _half_written(out)):
            self.violations.append(f"{where}: left behind: {left}")
        for _ in range(_ATTEMPTS):
            code, said = Running(arguments).wait()
            if code == 0 or "exists already" in said:  # it was complete before
                break
        if code and "exists already" not in said:
            self.violations.append(f"{where}: again: code {code}: {said[-300:]}")
            return
        try:
            found = case.result(out)
        except (OSError, ValueError) as error:
            found = repr(error)
        if found != expected:
            self.violations.append(f"{where}: another result: {str(found)[:200]}")
        shutil.rmtree(out)

    def _once(
        self, arguments: Sequence[object], out: Path, how: str, seconds: float, largest: int
    ) -> list[tuple[int, str]]:
        moment = self.random.uniform(0, 1.1 * seconds)
        if how.startswith("SIG"):
            running = Running(arguments)
            running.signal_after(moment, signal.Signals[how])
            return [running.wait()]
        if how == "full disk":
            size = int(largest ** self.random.uniform(0, 1))
            return [Running(arguments, files=size).wait()]
        if how == "two starts":
            first = Running(arguments)
            time.sleep(self.random.uniform(0, 0.5 * seconds))
            second = Running(arguments)
            return [first.wait(), second.wait()]
        place = out.with_name(f"{out.name}-aside")
        out.rename(place)
        out.write_text("not a folder")
        ended = [Running(arguments).wait()]
        out.unlink()
        place.rename(out)
        return ended

    @staticmethod
    def _kind(code: int) -> str:
        return signal.Signals(-code).name if code < 0 else f"code {code}"

    def _check_end(self, where: str, how: str, code: int, said: str) -> None:
        wanted = {
            "SIGKILL": (0, -9),
            "SIGTERM": (0, 143, -15),
            "SIGINT": (0, 130, -2),
            "full disk": (0, 1, 2, 3),
        }.get(how, (0, 2, 3))
        lines = [line for line in said.splitlines() if "rror" in line]
        bad = "Traceback" in said or "This is a bug" in said or "unexpected" in said
        if code not in wanted or bad or (code in (1, 2) and len(lines) != 1):
            self.violations.append(f"{where}: code {code}: {said[-400:]}")

    def table(self) -> str:
        """How often what was disturbed how, how it ended, and what was violated."""
        names = list(self.undisturbed)
        rows = [["", *DISTURBANCES]]
        rows += [[name, *(str(self.counts[name, how]) for how in DISTURBANCES)] for name in names]
        text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        ends = "\n".join(f"{how}: {end}: {n}" for (how, end), n in sorted(self.ends.items()))
        runs = sum(self.counts.values())
        return f"{text}\n\n{ends}\n\n{runs} runs, {len(self.violations)} violations"


def _half_written(out: Path) -> list[str]:
    """Temporary files; journals that the next run goes on with are none."""
    return [
        path.name
        for path in out.rglob(".*.partial")
        if len(path.name.split(".")) > 3 and len(path.name.split(".")[-2]) == 8
    ]


def main() -> int:
    """Make the inputs, run each command undisturbed, then disturb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=86400, help="begin no run after so long")
    parser.add_argument("--commands", default="", help="names, with commas; default: all")
    options = parser.parse_args()
    for name in _MODULES:
        importlib.import_module(name)
    from cases import CASES, make_inputs

    wanted = options.commands.split(",") if options.commands else [case.name for case in CASES]
    cases = [case for case in CASES if case.name in wanted]
    with tempfile.TemporaryDirectory() as name:
        os.environ["BIOD2C_CACHE"] = str(Path(name) / "cache")
        harness = Harness(Path(name), options.seed)
        harness.inputs.mkdir()
        _in_child(lambda: make_inputs(harness.inputs))
        with _endpoint(harness.inputs):
            for case in cases:
                harness.measure(case)
            plan = [(case, how) for how in DISTURBANCES for case in cases]
            began = time.monotonic()
            for number in range(options.runs):
                if time.monotonic() - began > options.seconds:
                    break
                if number % len(plan) == 0:
                    harness.random.shuffle(plan)
                harness.disturb(*plan[number % len(plan)], number)
        print(harness.table())
        for line in harness.violations:
            print("VIOLATION", " ".join(line.split()))
    return 1 if harness.violations else 0


if __name__ == "__main__":
    sys.exit(main())
