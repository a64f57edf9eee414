"""One run in a folder at a time: the lock of a run folder, which says who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from biod2c_core.errors import InputError
from biod2c_core.locks import hold

LOCK = "run.lock"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make a run folder and hold it alone; the system lets it go however the process ends.

    Raises:
        InputError: Another run holds it (process, machine and time are named), or it cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / LOCK).open("a+")
    except OSError as error:
        raise InputError(
            f"cannot make the run folder {output}: {error.strerror}", "Choose another --output."
        ) from error
    with file:
        if not hold(file):
            raise InputError(
                f"{output} is in use by another run ({_holder(file)})",
                "Wait until it has ended, or choose another --output.",
            )
        file.truncate(0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        file.write(json.dumps(holder))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the file stays: removing it would let two runs lock two files


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        found = json.loads(file.read(1000))
        return f"process {found['pid']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, TypeError, KeyError):  # it is just being written
        return "it has not said which"
