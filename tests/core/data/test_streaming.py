"""A large import needs memory for its ids and little else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from biod2c_core.data.formats import stream_records
from biod2c_core.errors import InputError

ROWS = 20_000
CHILD = """
import re, sys
from pathlib import Path
from biod2c_core.data.importing import import_records
report = import_records(sys.argv[1], sys.argv[2])
# not ru_maxrss: a child inherits its parent's
print(report.accepted, re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("layout", ["array", "lines"])
def test_memory_stays_far_below_the_file(layout: str, tmp_path: Path) -> None:
    caption = "A well circumscribed lesion in the right upper lobe. " * 62
    source = tmp_path / ("in.json" if layout == "array" else "in.jsonl")
    with source.open("w") as file:
        for number in range(ROWS):
            turns = [{"from": "human", "value": "Describe."}, {"from": "gpt", "value": caption}]
            row = {"id": str(number), "image": "x.jpg"}
            row |= (
                {"conversatons": turns}
                if layout == "array"
                else {"question": "q", "answer": caption}
            )
            before = ("[" if number == 0 else ",\n") if layout == "array" else ""
            file.write(before + json.dumps(row) + ("\n" if layout == "lines" else ""))
        file.write("]" if layout == "array" else "")
    command = [sys.executable, "-c", CHILD, str(source), str(tmp_path / "out.jsonl")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    accepted, memory = map(int, run.stdout.split())
    assert accepted == ROWS
    assert source.stat().st_size > 60 << 20
    assert memory < 110 << 10  # KiB


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_what_never_ends_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match="looks like no known format"):
        list(stream_records(tmp_path / name))
