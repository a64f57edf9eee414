"""Processes start with torchrun's variables, end together, and leave their code and no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import nn

from biod2c_core.errors import InputError, MissingDependencyError
from biod2c_core.training.hardware import engines, launch
from biod2c_core.training.hardware.engines import Engine, EngineFlags, choose_engine

HEAD = "import os, sys, time, signal; rank = int(os.environ['RANK'])\n"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", HEAD + code]


def test_each_process_knows_its_place(tmp_path: Path) -> None:
    code = f"""
names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT".split()
open(f"{tmp_path}/{{rank}}", "w").write(" ".join(os.environ[name] for name in names))
"""
    assert launch.launch(python(code), 2, launch.Nodes(2, 1, "node0:1234")) == 0
    found = [(tmp_path / name).read_text() for name in ("2", "3")]
    assert found == ["2 0 4 2 node0 1234", "3 1 4 2 node0 1234"]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("sys.exit(6 if rank == 1 else time.sleep(60))", 6),
        ("os.kill(os.getpid(), signal.SIGKILL) if rank == 0 else time.sleep(60)", 137),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.exit(2 if rank else 0)", 2),
    ],
)
def test_the_code_of_the_process_that_failed_comes_through(code: str, wanted: int) -> None:
    assert launch.launch(python(code), 2, launch.Nodes()) == wanted


def test_what_a_failed_process_said_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    code = "print('no such file', file=sys.stderr); sys.exit(2)"
    launch.launch(python(f"if rank == 1:\n    {code}\ntime.sleep(60)"), 2, launch.Nodes())
    assert capfd.readouterr().err == "process 1: no such file\n"
    launch.launch(python(code), 2, launch.Nodes())  # all say the same: once is enough
    assert capfd.readouterr().err == "no such file\n"


def test_of_a_process_that_was_killed_is_said_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    """Also where another one, which misses it, has failed meanwhile."""
    code = "os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else (time.sleep(0.3), sys.exit(1))"
    assert launch.launch(python(code), 2, launch.Nodes()) == 137
    said = capfd.readouterr().err
    assert "process 1 was ended by SIGKILL, perhaps for lack of memory" in said
    assert "--resume" in said


LAUNCHER = """
import sys
from biod2c_core.training.hardware.launch import Nodes, launch
sys.exit(launch(sys.argv[1:], 2, Nodes()))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_no_process_outlives_the_command(number: int, code: int, tmp_path: Path) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux kills the children of a killed process")
    child = python(f"open(f'{tmp_path}/{{rank}}', 'w').write(str(os.getpid()))\ntime.sleep(300)")
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, *child]) as process:
        deadline = time.monotonic() + 120
        while len(pids(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    assert len(pids(tmp_path)) == 2
    while any(alive(pid) for pid in pids(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pids(folder: Path) -> list[int]:
    return [int(text) for file in folder.iterdir() if (text := file.read_text())]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_hostfile_starts_the_run_on_every_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ``ssh`` of our own stands for the network: it notes the host and the line."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\necho "$2: $3" > {tmp_path}/$2\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    (tmp_path / "hosts").write_text("a slots=2  # first\n\nb slots=2\n")
    arguments = ["train", "-d", "my data"]
    assert launch.launch_on_hosts(tmp_path / "hosts", arguments, ["--gpus"]) == 0
    line = "biod2c train -d 'my data' --nodes 2 --node-rank {} --master a:29500 --gpus 2"
    for rank, host in enumerate("ab"):
        wanted = f"{host}: cd {Path.cwd()} && {line.format(rank)}\n"
        assert (tmp_path / host).read_text() == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no host"),
        ("a", "hosts:1: expected 'HOST slots=N', got 'a'"),
        ("a slots=0", "expected 'HOST slots=N'"),
        ("-oProxyCommand=x slots=1", "expected 'HOST slots=N'"),
        ("a slots=" + "9" * 5000, "expected 'HOST slots=N'"),
        ("a slots=\u00b2", "expected 'HOST slots=N'"),
        ("\udcff slots=1", "is no list of hosts"),
        ("# " + "x" * 2**20, "more than 1,048,576 bytes"),
    ],
)
def test_a_bad_hostfile_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        launch.read_hostfile(tmp_path / "hosts")


@pytest.mark.parametrize("code", [0, 2, 143])
def test_what_aborts_while_python_is_taken_apart_does_not_reach_the_code_of_a_rank(
    code: int, tmp_path: Path
) -> None:
    program = """
import atexit, os, sys
import biod2c_cli.app as cli

class Held:
    def __del__(self, abort=os.abort):
        abort()

def app():
    print("said")
    raise SystemExit(int(sys.argv[1]))

kept, cli.app = Held(), app
atexit.register(lambda: print("tidied"))
cli.main()
"""
    path = tmp_path / "program.py"
    path.write_text(program)
    line = [sys.executable, path, str(code)]
    environment = {
        **os.environ,
        "RANK": "1",
        "WORLD_SIZE": "2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    ended = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout) == (code, "said\ntidied\n"), ended.stderr
    del environment["RANK"]  # what it would be
    assert subprocess.run(line, capture_output=True, env=environment, check=False).returncode == -6


def test_slurm_tells_a_task_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MASTER_PORT", "29501")
    slurm = {
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    launch.adopt_slurm()
    assert launch.is_rank()
    assert not launch.is_first()
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["5", "1", "8", "4", "10.0.0.1", "29501"]


@pytest.mark.parametrize(
    ("processes", "on_gpu", "zero", "fsdp", "wanted"),
    [
        (1, True, None, False, "single"),
        (1, False, None, True, "single"),
        (2, False, None, False, "ddp"),
        (2, True, None, False, "zero2"),
        (2, True, 0, False, "ddp"),
        (2, False, 3, False, "zero3"),
        (2, False, None, True, "fsdp"),
    ],
)
def test_the_engine_follows_from_the_flags(
    processes: int,
    on_gpu: bool,
    zero: int | None,
    fsdp: bool,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    assert choose_engine(processes, on_gpu, EngineFlags(zero, fsdp=fsdp)).name == wanted


def test_engines_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--zero 2 and --fsdp are two engines"):
        choose_engine(2, True, EngineFlags(zero=2, fsdp=True))
    with pytest.raises(InputError, match="--zero is 1"):
        choose_engine(2, True, EngineFlags(zero=1))
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"biod2c\[train\]"):
        choose_engine(2, True, EngineFlags())
    file = Engine("deepspeed", tmp_path / "ds.json")
    for text in ("{", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900):
        (tmp_path / "ds.json").write_text(text)
        with pytest.raises(InputError, match="is not JSON"):
            engines.engine_arguments(file, False, True, nn.Identity())
