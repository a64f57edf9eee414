"""2,000 damaged files: no traceback, no hang, no process over 2 GB, nothing written elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("fuzz_child.py")
COUNT = int(os.environ.get("BIOD2C_FUZZ", "1000"))


@pytest.mark.parametrize("family", ["images", "tables"])
def test_damaged_files(family: str, tmp_path: Path) -> None:
    seed = os.environ.get("BIOD2C_FUZZ_SEED", "0")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    environment["HF_HOME"] = str(tmp_path / "hub")  # the datasets library keeps locks there
    command = [sys.executable, str(CHILD), family, str(COUNT), seed, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]  # a hang or 2 GB of memory would end it
    result = json.loads(run.stdout)
    assert not result["problems"], result["problems"][:3]
    assert not result["writes"]
    assert sum(result["outcomes"].values()) == COUNT
    # the mutations are neither all fatal nor all harmless
    assert result["outcomes"]["read"] > COUNT // 20
    assert COUNT - result["outcomes"]["read"] > COUNT // 20
    assert "Traceback" not in run.stderr
