"""A short sample of ``python tests/hostile/run.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_hostile_inputs_are_answered_or_refused_in_one_line() -> None:
    """``BIOD2C_HOSTILE_SEED`` chooses other inputs."""
    seed = os.environ.get("BIOD2C_HOSTILE_SEED", "0")
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--seed", seed]
    sample = ["--inputs", "120", "--kinds", "pictures,volumes,presets,checkpoints"]
    done = subprocess.run([*command, *sample], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"seed {seed}: {done.stdout} {done.stderr[-2000:]}"
    assert "0 violations" in done.stdout
