"""Start the processes of one run, on this machine or on several, and see them all end.

Each process is the same command again with torchrun's variables (``RANK``, ``WORLD_SIZE``,
``LOCAL_RANK``, ``MASTER_ADDR`` ...) in its environment, which is also how a run under torchrun itself,
or under Slurm's ``srun``, finds its place.

torchrun itself was tried below ``--gpus`` and does not keep what the command promises (torch 2.13). Its
code is 1 whatever a process ended with (6: loss not finite; 143: SIGTERM). After SIGTERM it kills after
30 s what is still saving. When it is killed with SIGKILL, as batch systems do, its processes stay and hold
their GPUs. And a hostfile's ssh needs this module's processes all the same.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from biod2c_core.errors import InputError
from biod2c_core.foreign import read_text

_SLOTS = re.compile("[1-9][0-9]{0,5}")
_PORT = 29500
_GRACE = 5.0  # seconds that processes have to end after Ctrl-C, or after another one has failed
_TAIL = 4000  # bytes of a failed process's messages that are shown


@dataclass(frozen=True)
class Nodes:
    """Where this machine stands among the machines of a run.

    Attributes:
        count: Machines.
        rank: This one's number, from 0.
        master: ``HOST:PORT`` of the first one.
    """

    count: int = 1
    rank: int = 0
    master: str = ""


def is_rank() -> bool:
    """Whether this process is one of a run that torchrun, Slurm or this module has started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """Whether this process writes the files of the run."""
    return int(os.environ.get("RANK", "0")) == 0


def leave_process_group() -> None:
    """Leave the other processes of the run, together."""
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def end_rank(code: int) -> NoReturn:
    """End a process of a run with a code, without taking the interpreter apart.

    DeepSpeed holds process groups to the end, so their threads live on. One that lets go of a tensor
    while Python is being taken apart aborts the process: "terminate called without an active
    exception", SIGABRT instead of the code.
    """
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # either may be closed
        stream.flush()
    os._exit(code)


def adopt_slurm() -> None:
    """Under ``srun`` with several tasks: set torchrun's variables from Slurm's."""
    slurm = os.environ
    tasks = int(slurm.get("SLURM_STEP_NUM_TASKS", "1"))
    if is_rank() or tasks < 2:
        return
    nodes = int(slurm.get("SLURM_STEP_NUM_NODES", "1"))
    master = slurm.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1") if nodes > 1 else "127.0.0.1"
    port = _PORT + int(slurm.get("SLURM_JOB_ID", "0")) % 1000  # the same in every task of the job
    found = {
        "RANK": slurm["SLURM_PROCID"],
        "LOCAL_RANK": slurm["SLURM_LOCALID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "MASTER_ADDR": slurm.get("MASTER_ADDR", master),
        "MASTER_PORT": slurm.get("MASTER_PORT", str(port)),
    }
    os.environ.update(found)


def check_gpus(wanted: int) -> None:
    """Refuse more GPUs than this machine has.

    Raises:
        InputError: It has fewer.
    """
    import torch

    found = torch.cuda.device_count()
    if wanted > found:
        raise InputError(
            f"--gpus {wanted}, but this machine has {found}",
            "Lower --gpus, or train on CPU processes with --processes.",
        )


def launch(command: Sequence[str], processes: int, nodes: Nodes) -> int:
    """Run a command as the processes of this machine.

    Args:
        command: Program and arguments.
        processes: How many.
        nodes: This machine's place among several.

    Returns:
        0, or the code of the process that failed first (128 + the signal for one that was killed);
        130 after Ctrl-C, 143 after SIGTERM.
    """
    host, port = _rendezvous(nodes)
    shared = {
        "WORLD_SIZE": str(processes * nodes.count),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get(
            "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes))
        ),
    }
    environments = [
        {"RANK": str(nodes.rank * processes + local), "LOCAL_RANK": str(local), **shared}
        for local in range(processes)
    ]
    return _run_together([list(command)] * processes, environments)


def launch_on_hosts(hostfile: Path, arguments: Sequence[str], count: Sequence[str]) -> int:
    """Run ``biod2c`` once on each machine of a hostfile, over ssh, in the folder of this process.

    Args:
        hostfile: Lines of ``HOST slots=N``, as DeepSpeed and MPI know them.
        arguments: Of ``biod2c``; the flags of the launch are added.
        count: The flag that takes the slots, if the arguments do not say the number.

    Returns:
        As :func:`launch`.
    """
    hosts = read_hostfile(hostfile)
    slots = hosts[0][1]
    if any(each != slots for _, each in hosts):
        raise InputError(f"{hostfile} gives different numbers of slots", "Give each host as many.")
    master = f"{hosts[0][0]}:{_PORT}"
    commands = []
    for rank, (host, _) in enumerate(hosts):
        own = ["--nodes", len(hosts), "--node-rank", rank, "--master", master]
        own += [*count, slots] if count else []
        line = shlex.join(["biod2c", *arguments, *map(str, own)])
        commands.append(["ssh", "-tt", host, f"cd {shlex.quote(str(Path.cwd()))} && {line}"])
    return _run_together(commands, [{} for _ in commands])


def read_hostfile(path: Path) -> list[tuple[str, int]]:
    """Hosts and their slots.

    Raises:
        InputError: It cannot be read, or a line is not ``HOST slots=N``.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise InputError(f"cannot read the hostfile {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(
            f"the hostfile {path} is no list of hosts ({error})",
            "Write a line 'HOST slots=N' for each.",
        ) from error
    hosts = []
    for number, line in enumerate(lines, 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        slots = fields[1].removeprefix("slots=") if len(fields) == 2 else ""
        if not _SLOTS.fullmatch(slots) or fields[0].startswith("-"):
            got = repr(line.strip())[:200]
            raise InputError(f"{path}:{number}: expected 'HOST slots=N', got {got}")
        hosts.append((fields[0], int(slots)))
    if not hosts:
        raise InputError(f"{path} names no host", "Write a line 'HOST slots=N' for each.")
    return hosts


def _rendezvous(nodes: Nodes) -> tuple[str, int]:
    if not 0 <= nodes.rank < nodes.count:
        raise InputError(f"--node-rank is {nodes.rank} of {nodes.count} nodes", "Count from 0.")
    if nodes.count > 1 and not nodes.master:
        raise InputError("several nodes need --master HOST:PORT", "Name the first node.")
    if not nodes.master:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return "127.0.0.1", free.getsockname()[1]
    host, _, port = nodes.master.partition(":")
    if port and not port.isdigit():
        raise InputError(f"--master is {nodes.master!r}", "Write HOST:PORT.")
    return host, int(port or _PORT)


def _run_together(commands: list[list[str]], environments: list[dict[str, str]]) -> int:
    """Run commands side by side until all have ended; when one fails, end the others."""
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(_forwarded_signals())
        messages: list[IO[bytes] | None] = [None]  # the first one speaks for itself
        messages += [stack.enter_context(tempfile.TemporaryFile()) for _ in commands[1:]]
        running = [
            subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
            for command, environment, errors in zip(commands, environments, messages, strict=True)
        ]
        try:
            failed = _wait(running, asked)
        finally:
            _end(running)
        if asked:
            return 128 + asked[0]
        if failed is None:
            return 0
        code = running[failed].returncode
        if code < 0:
            _tell_killed(failed, -code)
            return 128 - code
        _show(messages[failed], failed, running[0].returncode == code)
        return code


def _wait(running: list[subprocess.Popen[bytes]], asked: list[int]) -> int | None:
    """Wait for all; the place of the first one that fails, if any does."""
    passed: int | None = None
    told = 0
    while True:
        codes = [process.poll() for process in running]
        failed = [place for place, code in enumerate(codes) if code]
        if failed and not asked:  # else they were asked to end
            # one that was killed is why the others fail
            return min(failed, key=lambda place: codes[place] or 0)
        if all(code is not None for code in codes):
            return None
        if len(asked) > told:  # pass on what came
            passed, told = asked[-1], len(asked)
            for process in running:
                _signal(process, passed)
            if passed == signal.SIGINT or told > 1:
                return None  # _end gives them a moment, then insists
        time.sleep(0.05)


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    """Leave none behind: first a moment to end by themselves, then SIGTERM, then SIGKILL."""
    for step, pause in ((None, 2.0), (signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        left = [process for process in running if process.poll() is None]
        for process in left:
            if step is not None:
                _signal(process, step)
        deadline = time.monotonic() + pause
        while any(process.poll() is None for process in left) and time.monotonic() < deadline:
            time.sleep(0.05)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _tell_killed(rank: int, number: int) -> None:
    """Say what a process that was killed could not say itself."""
    why = ", perhaps for lack of memory" if number == signal.SIGKILL else ""
    print(
        f"error: process {rank} was ended by {signal.Signals(number).name}{why}. Its run can go on from "
        "the last checkpoint: --resume",
        file=sys.stderr,
        flush=True,
    )


def _show(errors: IO[bytes] | None, rank: int, first_said_it: bool) -> None:
    """What a failed process but the first had to say, unless the first failed in the same way."""
    if errors is None or first_said_it:
        return
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL))
    text = errors.read().decode("utf-8", "replace").strip()
    print(f"process {rank}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _forwarded_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of acting on them."""
    asked: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before: dict[int, Any] = {
        number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_parent() -> None:
    """In the new process, on Linux: be killed when the one that started it is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
