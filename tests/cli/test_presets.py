"""``biod2c presets``, each preset trained at toy size, and ``train --dry-run``."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny_models
import torch
from transformers import LlamaConfig
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_core.config import load_config, preset_names
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.training.train import train

WANTED = ["biomedclip-llama", "paper", "paper-zero3", "qlora-16gb", "smol", "tiny"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_presets_are_listed_with_a_line_each() -> None:
    result = invoke("presets", "list")
    assert [line.split()[0] for line in result.stdout.splitlines()] == WANTED
    lines = json.loads(invoke("presets", "list", "--json").stdout)
    assert list(lines) == WANTED == preset_names()
    assert all(len(line) > 20 for line in lines.values())


@pytest.mark.parametrize("name", WANTED)
def test_what_is_shown_is_a_preset_again(name: str, tmp_path: Path) -> None:
    result = invoke("presets", "show", name)
    (tmp_path / "shown.yaml").write_text(result.stdout)
    assert load_config(str(tmp_path / "shown.yaml")) == load_config(name)


def test_validation_names_the_first_mistake(tmp_path: Path) -> None:
    result = invoke("presets", "validate", *WANTED)
    assert result.stdout.splitlines() == [f"{name}: valid" for name in WANTED]
    (tmp_path / "bad.yaml").write_text("stage2: {batch_sice: 3}")
    result = invoke("presets", "validate", "tiny", tmp_path / "bad.yaml")
    assert result.exit_code == 2
    assert "Did you mean 'stage2.batch_size'?" in result.stderr


@pytest.mark.parametrize("name", WANTED)
def test_each_preset_trains_both_stages(
    name: str, llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOD2C_CACHE", str(tmp_path / "cache"))
    config = tiny_models.at_toy_size(load_config(name), llama)
    if config.stage1.base_weights == "nf4" and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed; extra 'qlora'")
    reporter = tiny_models.Silent()
    first = train(config, 1, [data], tmp_path / "1", reporter, device="cpu")
    second = train(
        config,
        2,
        [data],
        tmp_path / "2",
        reporter,
        device="cpu",
        checkpoint=str(first.model_folder),
    )
    model = load_model(second.model_folder)
    adapters = [name for name, _ in model.named_parameters() if "lora_B" in name]
    assert adapters
    assert all(model.get_parameter(name).abs().sum() > 0 for name in adapters)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.fixture(scope="module")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaMA-7B's configuration, and no weights."""
    folder = tmp_path_factory.mktemp("7b")
    LlamaConfig().save_pretrained(folder)
    return folder


def plan(data: Path, model: Path, *arguments: object) -> Result:
    line = ["train", "-d", data, "-o", "nowhere", "--set", f"model.language_model={model}"]
    return invoke(*line, "--dry-run", "--preset", "paper", *arguments)


def test_a_dry_run_counts_parameters_steps_and_memory(data: Path, seven_billion: Path) -> None:
    result = plan(data, seven_billion, "--json", "--batch-size", 4, "--epochs", 2)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    lora = 32 * 2 * 8 * (4096 + 4096)  # 32 layers, q and v, rank 8
    assert found["parameters"] - found["trainable"] > 6.7e9
    assert found["trainable"] > lora
    assert (found["records"], found["whole_batch"], found["steps"]) == (12, 16, 2)
    assert found["memory"]["weights"] == pytest.approx(2 * 6.738e9 / 2**30, rel=0.1)
    assert found["fits"] is None
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("gigabytes", "arguments", "code", "line"),
    [
        (80, [], 0, "fits in 80.0 GiB"),
        (16, [], 2, "does NOT fit in 16.0 GiB; what helps: --set stage2.base_weights=nf4"),
        (
            24,
            ["--set", "stage2.base_weights=float32"],
            2,
            "does NOT fit in 24.0 GiB; what helps: --set stage2.base_weights=bfloat16",
        ),
        (
            8,
            ["--gpus", "4"],
            2,
            "does NOT fit in 8.0 GiB; what helps: --zero 3, --set stage2.base_weights=nf4\n",
        ),
        (1, [], 2, "a smaller language model: none of these is enough"),
    ],
)
def test_a_dry_run_says_whether_it_fits_and_what_helps(
    gigabytes: int, arguments: list[str], code: int, line: str, data: Path, seven_billion: Path
) -> None:
    result = plan(data, seven_billion, "--gpu-memory", gigabytes, *arguments)
    assert result.exit_code == code, result.stderr
    assert line in result.stdout
    assert "trainable parameters: " in result.stdout


def test_as_json_a_dry_run_has_its_unit_and_says_on_stderr_why_it_does_not_fit(
    data: Path, seven_billion: Path
) -> None:
    result = plan(data, seven_billion, "--json", "--gpu-memory", 16)
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert (found["unit"], found["available"], found["fits"]) == ("GiB", 16, False)
    assert found["total"] > 16
    assert "does NOT fit in 16.0 GiB; what helps: --set stage2.base_weights=nf4" in result.stderr


def test_zero_3_splits_the_weights(data: Path, seven_billion: Path) -> None:
    one = json.loads(plan(data, seven_billion, "--json").stdout)["memory"]
    four = json.loads(plan(data, seven_billion, "--json", "--gpus", 4, "--zero", 3).stdout)
    assert four["memory"]["weights"] == pytest.approx(one["weights"] / 4, rel=0.01)
    assert four["memory"]["optimiser"] == pytest.approx(one["optimiser"] / 4, rel=0.05)
    assert four["processes"] == 4


def test_more_gpus_than_there_are_is_one_line(data: Path, tmp_path: Path) -> None:
    result = invoke(
        *("train", "-d", data, "-o", tmp_path, "--preset", "tiny", "-m", "x", "--gpus", 99)
    )
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --gpus 99, but this machine has ")
    assert result.stderr.count("\n") == 1
