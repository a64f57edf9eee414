"""Worker processes that are killed."""

from __future__ import annotations

import os
import signal

import pytest

from biod2c_core.errors import InputError
from biod2c_core.workers import worker_pool


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def test_a_worker_that_is_killed_is_one_line_with_what_to_do() -> None:
    with (
        pytest.raises(InputError, match=r"a process that decodes died, .*memory\. Use fewer\."),
        worker_pool(1, "decodes", "Use fewer.") as pool,
    ):
        pool.submit(kill, signal.SIGKILL).result()
