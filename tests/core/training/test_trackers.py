"""TensorBoard and Weights & Biases hold what the log holds, in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
from typer.testing import CliRunner

from biod2c_cli.app import app
from biod2c_core.errors import InputError
from biod2c_core.training.logs import trackers
from biod2c_core.training.logs.run_log import read_log
from biod2c_core.training.train import train


def track(name: str, llama: Path, data: Path, output: Path) -> list[dict[str, Any]]:
    """The lines of the log of two steps."""
    config = tiny_models.training_config(llama, max_steps=2)
    train(config, 2, [data], output, tiny_models.Silent(), device="cpu", track=[name])
    return [row for row in read_log(output / "log.jsonl") if "loss" in row]


def test_tensorboard_holds_the_log(llama: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = track("tensorboard", llama, data, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for key in ("loss", "loss_nll", "loss_sem", "beta", "learning_rate", "tokens_per_s"):
        found = {each.step: each.value for each in events.Scalars(f"train/{key}")}
        assert found == {row["step"]: pytest.approx(row[key], rel=1e-6) for row in rows}


def test_weights_and_biases_holds_the_log(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track("wandb", llama, data, tmp_path)
    wandb.finish()
    [written] = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    for key in (b"train/loss_nll", b"train/loss_sem", b"train/beta"):
        assert written.read_bytes().count(key) >= 2  # of each step


def test_weights_and_biases_without_a_login_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")

    def refuse(**_: Any) -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(InputError, match=r"does not start \(No API key.*WANDB_MODE=offline"):
        trackers.start_trackers(["wandb"], tmp_path)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_flag_without_its_package_is_one_line(
    name: str, llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda wanted: None)
    line = ["train", "-d", data, "-o", tmp_path / "run", "--device", "cpu", f"--{name}"]
    more = ["--set", f"model.language_model={llama}"]
    result = CliRunner().invoke(app, [str(each) for each in (*line, *more)])
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: this needs the package {name!r}, which is not installed. "
        "Install it with: pip install 'biod2c[track]'\n"
    )
    assert not (tmp_path / "run").exists()
