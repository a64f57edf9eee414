"""A command of ``biod2c`` in a process forked from one that has imported everything."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.training.hardware.launch import die_with_parent

_ASKS = (signal.SIGINT, signal.SIGTERM)
_IDLE = 60.0  # seconds without any work after which a process hangs, however busy the machine is
_LIMIT = 600.0  # seconds after which one that works hangs, too
_STACKS = signal.SIGUSR1  # asks a process for the stacks of its threads


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code, negative for a signal.
        said: On stderr; after a hang, the stacks of its threads as well.
        hung: Whether it had to be killed because it did not end.
    """

    code: int
    said: str
    hung: bool = False


def nothing() -> None:
    """Leave the process as it is."""


class Running:
    """The process.

    Args:
        arguments: Of ``biod2c``.
        child: Done in the process before the command: limits, another clock.
        modules: File that gets the names of the modules that it has imported.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        child: Callable[[], None] = nothing,
        modules: Path | None = None,
    ) -> None:
        self._said, self._says = os.pipe()  # a limit on the size of files would cut off a file
        os.set_blocking(self._said, False)
        self._text = b""
        self.began = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)  # the child must never unwind into main()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments, child, modules)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)
        os.close(self._says)

    def _become(
        self, arguments: Sequence[object], child: Callable[[], None], modules: Path | None
    ) -> None:
        code = 1
        try:
            self._prepare()
            sys.argv = ["biod2c", *map(str, arguments)]
            from biod2c_cli.app import main

            child()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKS)
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except KeyboardInterrupt:  # before the command has begun
            code = 130
        except BaseException as error:
            print(f"Traceback: {error!r}", file=sys.stderr)
        finally:
            if modules is not None:
                modules.write_text("\n".join(list(sys.modules)))
            os._exit(code or 0)

    def _prepare(self) -> None:
        end_with_parent()
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(self._says, 2)
        for left in (null, self._says, self._said):
            os.close(left)
        faulthandler.register(_STACKS, file=2)

    def wait(self) -> Ended:
        """How it ended."""
        worked, hung = (0.0, time.monotonic()), False
        while not self._ends_within(1.0 + time.monotonic() - self.began):
            seconds, now = self._worked(), time.monotonic()
            worked = worked if worked[0] == seconds else (seconds, now)
            if hung := now - worked[1] > _IDLE or now - self.began > _LIMIT:
                self.kill(_STACKS)
                self._ends_within(2.0 + now - self.began)
                self.kill(signal.SIGKILL)
                break
        _, status = os.waitpid(self.pid, 0)
        with suppress(ProcessLookupError):  # of its own processes none is left
            os.killpg(self.pid, signal.SIGKILL)
        self._read()
        self.seconds = time.monotonic() - self.began
        os.close(self._said)
        said = self._text.decode("utf-8", "replace")
        return Ended(os.waitstatus_to_exitcode(status), said, hung)

    def _worked(self) -> float:
        """Seconds of a processor that it and its ended children have used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def _ends_within(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long after its start; whether it has."""
        while not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() - self.began > seconds:
                return False
            self._read()
            time.sleep(0.003)
        return True

    def _read(self) -> None:
        with suppress(BlockingIOError):  # a worker may still hold the other end
            while part := os.read(self._said, 2**16):
                self._text += part

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Wait for the moment, and act, unless the process has ended before."""
        if not self._ends_within(seconds):
            action()

    def kill(self, number: int) -> None:
        """Send a signal; one that has ended does not mind."""
        os.kill(self.pid, number)


def end_with_parent() -> None:
    """In a new process: do not outlive the harness."""
    if sys.platform == "linux":
        die_with_parent()


def in_child(work: Callable[[], None], what: str) -> None:
    """Do something in a process of its own, so that this one stays as it is.

    Raises:
        SystemExit: It failed.
    """
    child = os.fork()
    if child == 0:
        code = 1
        end_with_parent()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            work()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{what} cannot be made")
