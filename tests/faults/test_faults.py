"""A short random sample of ``python tests/faults/run.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")
def test_disturbed_commands_end_as_if_nothing_had_happened() -> None:
    """The moments differ from run to run; ``BIOD2C_FAULT_SEED`` chooses other disturbances."""
    seed = os.environ.get("BIOD2C_FAULT_SEED", "0")
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--seed", seed]
    sample = ["--runs", "60", "--seconds", "8", "--commands", "data import,export"]
    done = subprocess.run([*command, *sample], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"seed {seed}: {done.stdout} {done.stderr[-2000:]}"
    assert "0 violations" in done.stdout
