"""The benchmark of large data prints ratios only where both ways give the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "data_scale.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("scipy", reason="scipy is not installed")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("data_scale", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "data_scale", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["data_scale.py", "--rows", "200", "400", "--rounds", "1"])
    return module


def test_every_work_is_compared_and_timed(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    names = [row[0].removeprefix("| ") for row in rows]
    records = ["import json", "import csv", "mix", "mix, half", "malformed"]
    once = [*records, "files", "copies", "duplicates", "bootstrap 1", "bootstrap 12"]
    assert names == once * 2
    assert all(float(row[3]) >= 0 for row in rows)
    assert all(float(row[4]) > 0 for row in rows)


def test_nothing_is_printed_of_work_that_differs(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import_records = benchmark.import_records

    def lossy(source: Path, out: Path) -> None:
        import_records(source, out)
        out.write_text(out.read_text().replace("yes", "no"))

    monkeypatch.setattr(benchmark, "import_records", lossy)
    assert benchmark.main() == 1
    captured = capsys.readouterr()
    assert "import" not in captured.out
    assert "import json, 200: the two ways do not give the same" in captured.err
