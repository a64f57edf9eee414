"""Reading ahead in worker processes: the same things in the same order, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from biod2c_core.data.read_ahead import read_ahead
from biod2c_core.errors import ImageError, InputError
from biod2c_core.training.inputs.collate import read_pictures

SIDE = 24
GONE = 60.0  # seconds in which workers end after their parent, on a busy machine
SCRIPT = """
import os, sys
from biod2c_core.data.read_ahead import read_ahead

def who(number):
    return os.getpid()

if __name__ == "__main__":
    for pid in read_ahead(who, list(range(100)), 2):
        print(pid, flush=True)
        sys.stdin.readline()
"""


def write_pictures(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.linear_gradient("L").rotate(9 * index).resize((60, 41)).save(path)
    return paths


def png_of(width: int, height: int) -> bytes:
    """The header of a picture of some size, without its pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["damaged", "bomb"])
def test_workers_read_what_this_process_reads_and_fail_as_it_does(
    kind: str, tmp_path: Path
) -> None:
    """Limits hold in a worker, and what it says of a file is the same line."""
    paths = write_pictures(tmp_path, 5)
    whole = paths[0].read_bytes()
    bad = tmp_path / "bad.png"
    bad.write_bytes(whole[: len(whole) // 2] if kind == "damaged" else png_of(50_000, 50_000))
    items = [[path] for path in [*paths, bad]]
    state = torch.get_rng_state()
    found: list[list[torch.Tensor]] = []
    said: list[str] = []
    for workers in (0, 1):
        got: list[torch.Tensor] = []
        with pytest.raises(ImageError) as caught:  # noqa: PT012
            for pictures in read_ahead(partial(read_pictures, side=SIDE), items, workers):
                got.append(pictures)  # what came before the error counts
        found.append(got)
        said.append(str(caught.value))
    assert len(found[0]) == len(paths)
    assert all(map(torch.equal, *found))
    assert said[0] == said[1]
    assert "bad.png" in said[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises(InputError, match=r"a process that reads the data died.*Use fewer"):
        list(read_ahead(die, [1], 1))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_workers_outlive_sigterm_but_not_their_parent(tmp_path: Path) -> None:
    """Batch systems send SIGTERM to all processes, and the parent still finishes its step."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pids: set[int] = set()
        for turn in range(12):  # more than were read ahead
            pids.add(int(parent.stdout.readline()))
            if turn == 1:
                for pid in pids:
                    os.kill(pid, signal.SIGTERM)
            print(file=parent.stdin, flush=True)
        assert len(pids) == 2
        parent.kill()
        end = time.monotonic() + GONE
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
            time.sleep(0.05)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
