"""bfloat16 is used where the processor has instructions for it, and the run says what it used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
import torch

from biod2c_core.config import StageSettings
from biod2c_core.training.hardware.precision import computes_in_bf16, fit_precision
from biod2c_core.training.train import train

LAPTOP = {"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_bf16": False}
SERVER = LAPTOP | {"avx512_bf16": True}
ARM = {"architecture": "aarch64", "bf16": True}


def processor(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object]) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)


@pytest.mark.parametrize(
    ("capabilities", "has"), [(LAPTOP, False), (SERVER, True), (ARM, True), ({}, False)]
)
def test_the_instructions_decide_on_a_cpu(
    capabilities: dict[str, object], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, capabilities)
    assert computes_in_bf16(on_cpu=True) is has
    assert fit_precision(StageSettings(), on_cpu=True) == StageSettings(bf16=has)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_only_imitates_it_does_not_count(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, SERVER)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: native or including_emulation,
    )
    assert computes_in_bf16(on_cpu=False) is native
    assert fit_precision(StageSettings(), on_cpu=False) == StageSettings(bf16=native)


def test_a_torch_that_cannot_tell_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_in_bf16(on_cpu=True)


@pytest.mark.parametrize(
    "settings",
    [
        StageSettings(bf16=False),
        StageSettings(base_weights="bfloat16"),
        StageSettings(base_weights="nf4"),
    ],
)
def test_what_was_asked_for_stays(settings: StageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, LAPTOP)
    assert fit_precision(settings, on_cpu=True) == settings


@pytest.mark.parametrize(("capabilities", "used"), [(LAPTOP, "float32"), (SERVER, "bfloat16")])
def test_a_run_says_what_it_computes_in(
    capabilities: dict[str, object],
    used: str,
    llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor(monkeypatch, capabilities)
    reporter = tiny_models.Silent()
    config = tiny_models.training_config(llama, max_steps=1, bf16=True)
    train(config, 1, [data], tmp_path, reporter, device="cpu")
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == used
    assert any("float32" in note for note in reporter.notes) == (used == "float32")
