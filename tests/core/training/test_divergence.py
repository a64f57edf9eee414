"""A run whose loss is no longer finite leaves no checkpoint with exploded weights to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from biod2c_core.errors import DivergenceError
from biod2c_core.training import trainer
from biod2c_core.training.logs.run_log import read_log
from biod2c_core.training.train import train


def go(llama: Path, data: Path, output: Path, resume: bool = False, **changes: Any) -> Any:
    values = {"max_steps": 8, "save_every": 1, "keep": 0, "warmup_ratio": 0.0, **changes}
    reporter = tiny_models.Silent()
    config = tiny_models.training_config(llama, **values)
    train(config, 2, [data], output, reporter, resume=resume, device="cpu")
    return reporter


def names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


def test_exploded_checkpoints_are_set_aside_and_the_run_goes_on_from_before_them(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """With loss and weights still finite for steps before the loss is not."""
    go(llama, data, tmp_path, max_steps=2)
    with pytest.raises(DivergenceError, match="the loss is nan at step") as caught:
        go(llama, data, tmp_path, resume=True, learning_rate=1e4, max_steps=40)
    assert "checkpoint-2 is left to go on from" in str(caught.value)
    assert names(tmp_path)[:3] == ["checkpoint-1", "checkpoint-2", "diverged-3"]
    assert len(names(tmp_path)) > 3  # more than the last one: the loss of these was finite
    assert go(llama, data, tmp_path, resume=True, max_steps=4).started == [(4, 2)]


def test_weights_that_are_not_finite_are_not_saved(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = trainer.largest_weight
    seen: list[float] = []

    def spoilt(parameters: Any, device: torch.device) -> float:
        kept = list(parameters)
        if len(seen) == 2:
            next(each for each in kept if each.requires_grad).detach().fill_(torch.nan)
        seen.append(largest(kept, device))
        return seen[-1]

    monkeypatch.setattr(trainer, "largest_weight", spoilt)
    with pytest.raises(DivergenceError, match="weights are not finite after step 2"):
        go(llama, data, tmp_path)
    assert names(tmp_path) == ["checkpoint-1"]


def test_a_changed_learning_rate_is_used(llama: Path, data: Path, tmp_path: Path) -> None:
    """The checkpoint's schedule would bring back the one that has diverged."""
    go(llama, data, tmp_path, max_steps=2, schedule="constant", learning_rate=1e-3)
    go(llama, data, tmp_path, True, max_steps=4, schedule="constant", learning_rate=1e-4)
    rates = [row["learning_rate"] for row in read_log(tmp_path / "log.jsonl") if "loss" in row]
    assert rates == [1e-3, 1e-3, 1e-4, 1e-4]
