"""Processes that read hostile input: forked warm, limited, watched; an input that ends one is known."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biod2c_core.errors import BioD2CError
from biod2c_core.inference.serving.requests import RefusedError

MOST_MEMORY = 2 << 30  # bytes resident in a process
MOST_SECONDS = 30.0
_ROOM = (
    4 << 30
)  # address space beyond the warm process's: it protects the machine, and hides no peak
_CODES = (0, 2, 3, 4, 5, 6)
_BAD_WORDS = ("Traceback", "This is a bug")
_OBEYED = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate"}
_WRITES |= {"os.link", "os.chmod", "os.chown", "shutil.rmtree"}
_STARTS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
_OWN_STARTS = ("decoder_child.py", "worker.py", "uname")  # the last by Python's platform
_HERE = ("127.0.0.1", "localhost", "::1", "")
Read = Callable[[], "Outcome"]
CANARY = "executed"  # the file that any code of a stranger leaves behind


@dataclass
class Outcome:
    """What became of an input.

    Attributes:
        verdict: ``answered``, ``refused``, or what was violated.
        detail: The refusal, or how it was violated.
    """

    verdict: str
    detail: str = ""
    seconds: float = 0.0
    memory: int = 0


class Sandbox:
    """Remembers what a process did that no input may have it do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._allowed = (str(folder), os.environ["HF_HOME"])
        self.deeds: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            flags = args[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._written(event, args[0])
        elif event in _WRITES:
            self._written(event, args[1] if event in ("os.symlink", "os.link") else args[0])
        elif event in _STARTS:
            words = [str(each) for each in (args[1] if len(args) > 1 else args) or ()]
            if not any(word.endswith(_OWN_STARTS) for word in words):
                self.deeds.append(f"started {words[:3]}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            place = args[1] if event == "socket.connect" else args
            host = place[0] if isinstance(place, tuple) else place
            if (host.decode() if isinstance(host, bytes) else host or "") not in _HERE:
                self.deeds.append(f"reached for {host!r}")
        elif event == "exec" and str(self.folder) in getattr(args[0], "co_filename", ""):
            self.deeds.append(f"ran {args[0].co_filename}")

    def _written(self, event: str, target: Any) -> None:
        if isinstance(target, int) or (name := os.fsdecode(target)) in ("", os.devnull):
            return
        if not os.path.abspath(name).startswith(self._allowed):  # noqa: PTH100
            self.deeds.append(f"{event} {name}")


def outcome_of_call(work: Callable[[], Any]) -> Outcome:
    """Call the library as a command would."""
    try:
        work()
    except RefusedError as error:
        return Outcome("refused", error.message)
    except BioD2CError as error:
        if "\n" in str(error) or error.exit_code not in _CODES:
            return Outcome("not one line", repr(error))
        return Outcome("refused", str(error))
    except BaseException:  # a command prints it as a bug
        return Outcome("traceback", traceback.format_exc())
    return Outcome("answered")


class Said:
    """Standard output and error of this process, kept in files."""

    def __init__(self, folder: Path) -> None:
        self._files = []
        for number, name in ((1, "out"), (2, "err")):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            file = os.open(folder / f".{name}", flags)
            os.dup2(file, number)
            self._files.append(folder / f".{name}")

    def take(self) -> tuple[str, str]:
        """What was written since the last time."""
        sys.stdout.flush()
        sys.stderr.flush()
        texts = [file.read_bytes().decode("utf-8", "surrogateescape") for file in self._files]
        for file in self._files:
            os.truncate(file, 0)
        return texts[0], texts[1]


@dataclass(frozen=True)
class Done:
    """What a command did: its exit code, or the traceback that came out of it, and what it said."""

    code: object
    out: str
    err: str


def run_command(arguments: Sequence[object], said: Said) -> Done:
    """Run ``biod2c`` in this process."""
    from biod2c_cli.app import main

    said.take()
    sys.argv = ["biod2c", *map(str, arguments)]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        code = traceback.format_exc()
    return Done(code, *said.take())


def outcome_of_command(arguments: Sequence[object], said: Said) -> Outcome:
    """Run ``biod2c`` in this process, and judge what it did."""
    return outcome_of(run_command(arguments, said), arguments)


def outcome_of(done: Done, arguments: Sequence[object]) -> Outcome:
    """Whether a command answered, refused in one line, or did what none may do."""
    code, out, err = done.code, done.out, done.err
    shown = " ".join(f"{arguments[:2]} code {code}: {err[-1500:]}".split())
    if code not in _CODES or any(word in err for word in _BAD_WORDS):
        return Outcome("traceback", shown)
    if _OBEYED.search(out) or _OBEYED.search(err):
        return Outcome("control characters", repr(out[-300:] + err[-300:]))
    if code in (2, 4, 5, 6) and sum("rror" in line for line in err.splitlines()) != 1:
        return Outcome("not one line", shown)
    return Outcome("refused" if code else "answered", err[-300:])


def _peak(reset: bool = False) -> int:
    """Bytes that were resident at most since the last reset (Linux)."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return 0
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    own = int(found[1]) * 1024 if found else 0
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _limit() -> None:
    found = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())
    if found:
        most = int(found[1]) * 1024 + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def watched(work: Read, sandbox: Sandbox, said: Said, within: set[str]) -> Outcome:
    """One input: its outcome, or what was violated on the way."""
    _peak(reset=True)
    sandbox.deeds = []  # of the generator
    began = time.monotonic()
    outcome = work()
    outcome.seconds = time.monotonic() - began
    outcome.memory = _peak()
    _out, err = said.take()
    deeds, sandbox.deeds = sandbox.deeds, []
    new = {each.name for each in sandbox.folder.parent.iterdir()} - within
    if (sandbox.folder / CANARY).exists() or any(
        each.startswith(("ran", "started")) for each in deeds
    ):
        return Outcome("executed", f"{deeds[:5]} {outcome.detail}")
    if deeds or new:
        return Outcome("written elsewhere", f"{deeds[:5]} {sorted(new)[:5]} {outcome.detail}")
    if outcome.verdict in ("answered", "refused"):
        if any(word in err for word in _BAD_WORDS):
            return Outcome("traceback", err[-3000:])
        if outcome.memory > MOST_MEMORY:
            return Outcome("memory", f"{outcome.memory >> 20} MiB: {outcome.detail}")
        if outcome.seconds > MOST_SECONDS:
            return Outcome("time", f"{outcome.seconds:.1f} s: {outcome.detail}")
    return outcome


def run_inputs(
    begin: Callable[[Sandbox, Said], contextlib.AbstractContextManager[Callable[[int], Read]]],
    numbers: Sequence[int],
    folder: Path,
) -> Iterator[tuple[int, Outcome]]:
    """Give inputs to a process, and to another one where an input has ended it.

    Args:
        begin: Called in the process; gives what makes the input of a number, and gives what reads it.
        numbers: Of the inputs.
        folder: The only place where the process may write.
    """
    left = list(numbers)
    while left:
        for number, outcome in _in_one_process(begin, left, folder):
            left.remove(number)
            yield number, outcome


def _in_one_process(
    begin: Callable[..., Any], numbers: Sequence[int], folder: Path
) -> Iterator[tuple[int, Outcome]]:
    folder.mkdir(parents=True, exist_ok=True)
    within = {each.name for each in folder.parent.iterdir()}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _read(begin, numbers, folder, writing, within)
        except BaseException:
            os.write(writing, json.dumps({"broken": traceback.format_exc()}).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    running: int | None = None
    try:
        for line in _lines(reading, child):
            message = json.loads(line)
            if "broken" in message:
                raise RuntimeError(f"the harness fails: {message['broken']}")
            if "begins" in message:
                running = message["begins"]
            else:
                yield message["number"], Outcome(**message["outcome"])
                running = None
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
    if running is not None:
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        what = f"the process ended: {os.waitstatus_to_exitcode(status)}"
        yield running, Outcome("time" if late else "process ended", what, MOST_SECONDS)


def _lines(reading: int, child: int) -> Iterator[bytes]:
    """What the child says; it is killed when it says nothing for too long."""
    text = b""
    while True:
        ready, _, _ = select.select([reading], [], [], 2 * MOST_SECONDS)
        if not ready:
            os.killpg(child, signal.SIGKILL)
            return
        part = os.read(reading, 1 << 16)
        if not part:
            return
        *lines, text = (text + part).split(b"\n")
        yield from lines


def _read(
    begin: Callable[..., Any], numbers: Sequence[int], folder: Path, writing: int, within: set[str]
) -> None:
    """In the child: make and read the inputs."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    os.chdir(empty)  # "outside" also means: beside wherever a person happens to be
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ |= {name: str(temporary) for name in ("TMPDIR", "HOME", "BIOD2C_CACHE")}
    tempfile.tempdir = str(temporary)  # which has been looked up before
    _limit()
    said = Said(folder)
    sandbox = Sandbox(folder)

    def say(**message: Any) -> None:
        os.write(writing, json.dumps(message).encode() + b"\n")

    with begin(sandbox, said) as one:
        for number in numbers:
            say(begins=number)
            outcome = watched(one(number), sandbox, said, within)
            if any(empty.iterdir()):
                outcome = Outcome("written elsewhere", f"{list(empty.iterdir())[:3]}")
            outcome.detail = outcome.detail[-3000:]
            say(number=number, outcome=asdict(outcome))
