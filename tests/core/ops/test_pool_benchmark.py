"""The benchmark reports figures only behind a green gate."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "multi_scale_pool.py"


class Meter:
    """Runs what it is given; every run takes a millisecond."""

    def seconds(self, run: Callable[[], object]) -> float:
        run()
        return 1e-3

    def extra_bytes(self, run: Callable[[], object]) -> int:
        run()
        return 0


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pool_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pool_benchmark", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(module, "CpuMeter", Meter)
    arguments = [
        "--device",
        "cpu",
        "--batch",
        "3",
        "--cells",
        "4",
        "--channels",
        "16",
        "--rounds",
        "1",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, str(tmp_path / "figures.json")])
    return module


def test_all_candidates_agree_and_are_reported(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main() == 0
    report = json.loads((tmp_path / "figures.json").read_text())
    names = {row["name"] for row in report["figures"] if row["mode"] == "forward"}
    assert {"naive loop", "12 adaptive pools", "reshape, compiled", "biod2c compiled"} <= names
    assert report["figures"][0]["name"] == "cascaded pool2d"  # what all others are compared with
    assert len(report["figures"]) == 2 * 2 * (10 + 8)  # dtypes x layouts x (forward + training)
    assert {row["speedup"] for row in report["figures"]} == {1.0}
    assert capsys.readouterr().out.count("| naive loop |") == 8


@pytest.mark.parametrize("wrong_gradient", [False, True])
def test_nothing_is_reported_when_one_is_off(
    benchmark: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wrong_gradient: bool,
) -> None:
    right = benchmark.reshaped

    def off(features: torch.Tensor, scales: int) -> torch.Tensor:
        error = 1e-3 * (features - features.detach() if wrong_gradient else features)
        return right(features + error, scales)

    monkeypatch.setattr(benchmark, "reshaped", off)
    assert benchmark.main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "red gate" in captured.err
    assert ("reshape, gradient" if wrong_gradient else "reshape: off") in captured.err
    assert not (tmp_path / "figures.json").exists()
