"""``biod2c`` in processes forked from one that has imported everything, so that no test pays for it twice.

What a command does at its end (its exit code, the group of processes that it must leave in order) is
that of a process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.training.hardware.launch import die_with_parent

_LIMIT = 600.0  # seconds of all processes of a request
_MOMENT = 30.0  # seconds that the others have once one has failed
_MODULES = (
    "biod2c_core.training.train",
    "biod2c_cli.commands.train",
    "transformers.models.llama.modeling_llama",
    "peft",
    "timm",
    "torchvision",
)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its code, negative for a signal, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Forks:
    """The process that has imported everything, as the tests see it."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def run(
        self, arguments: Sequence[object], ranks: int = 1, program: str = "biod2c_cli.app"
    ) -> list[Ended]:
        """Run ``biod2c``, or ``main`` of another module, in several processes of one run if asked to."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as name:
            request = [list(map(str, arguments)), ranks, name, program]
            print(json.dumps(request), file=self._server.stdin, flush=True)
            codes = json.loads(self._server.stdout.readline())
            texts = [
                [(Path(name) / f"{rank}.{end}").read_text() for end in ("out", "err")]
                for rank in range(ranks)
            ]
        return [Ended(code, *text) for code, text in zip(codes, texts, strict=True)]


@contextmanager
def forks(*modules: str) -> Iterator[Forks]:
    """Start the process; it imports ``modules`` as well."""
    with subprocess.Popen(
        [sys.executable, __file__, *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        preexec_fn=_end_with_parent,
    ) as server:
        yield Forks(server)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        die_with_parent()


def _serve(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(_run(*json.loads(line))), flush=True)


def _run(arguments: list[str], ranks: int, folder: str, program: str) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [
        _fork(arguments, _place(rank, ranks, port), Path(folder, str(rank)), program)
        for rank in range(ranks)
    ]
    codes = _wait(children)
    return [codes[child] for child in children]


def _place(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The variables of :mod:`biod2c_core.training.hardware.launch`."""
    if ranks == 1:
        return {}
    same = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    own = {"RANK": rank, "LOCAL_RANK": rank, **same}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in own.items()}}


def _fork(arguments: list[str], variables: dict[str, str], place: Path, program: str) -> int:
    """In the parent, the child's id; the child does not come back."""
    child = os.fork()
    if child:
        return child
    _end_with_parent()
    for number, end in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(place.with_suffix(end), os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(variables)
    sys.argv = ["biod2c", *arguments]
    importlib.import_module(program).main()
    sys.exit(0)


def _wait(children: list[int]) -> dict[int, int]:
    codes: dict[int, int] = {}
    deadline = time.monotonic() + _LIMIT
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
        if any(codes.values()):
            deadline = min(deadline, time.monotonic() + _MOMENT)
        time.sleep(0.01)
    return codes


if __name__ == "__main__":
    _serve([*_MODULES, *sys.argv[1:]])
