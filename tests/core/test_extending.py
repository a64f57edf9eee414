"""What ``docs/extending.md`` shows works, from outside the package and through the same seams."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from typer.testing import CliRunner
from worked_examples import REPOSITORY, assert_fits, diff_of, new_module

from biod2c_cli import app
from biod2c_core.data.formats import (
    FORMATS,
    ReadOptions,
    read_records,
    register_format,
    stream_records,
)
from biod2c_core.data.records import Record
from biod2c_core.errors import ConfigError, InputError
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score import profiles
from biod2c_core.evaluation.score.score_all import score_all
from biod2c_core.model import losses
from biod2c_core.model.beyond import extension
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.training.stages import loss_weights
from biod2c_core.training.train import train

SECTIONS = [
    *("A switch", "A loss", "A data set", "A metric profile", "A vision library", "A command"),
]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_diff_fits_the_files_it_changes(section: str) -> None:
    assert_fits(section)


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    added = profiles._ADDED
    known = [(each, dict(each)) for each in (extension.EXTENSIONS, losses.LOSSES, FORMATS, added)]
    yield
    for registry, before in known:
        registry.clear()
        registry.update(before)


def steps(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_switch_and_a_loss_of_another_package(
    registries: None, llama: Path, data: Path, tmp_path: Path
) -> None:
    """Trained, logged, weighed, saved and loaded, without a line of the package changed."""
    extension.register_extension("channel_gate", new_module("A switch").ChannelGate)
    losses.register_loss(replace(new_module("A loss").DIV, setting=""))

    config = tiny_models.training_config(llama, max_steps=3, loss_weights={"div": 0.5})
    config = replace(config, model=replace(config.model, extensions=("channel_gate",)))
    result = train(config, 2, [data], tmp_path / "run", tiny_models.Silent(), device="cpu")
    for row in steps(tmp_path / "run"):
        if "loss_div" in row:
            wanted = row["loss_nll"] + row["loss_sem"] + 0.5 * row["loss_div"]
            assert row["loss"] == pytest.approx(wanted, rel=1e-5)
    assert sum("loss_div" in row for row in steps(tmp_path / "run")) == 3
    model = load_model(result.model_folder)
    assert model.config.extensions == ("channel_gate",)
    assert model.fusion.channel_gate.gate.abs().sum() > 0  # it has learned

    grid = torch.randn(1, *tiny_models.GRID)
    gated = model.fusion.pool(grid)[0]
    plain = model.fusion.pool(grid / (1 + model.fusion.channel_gate.gate))[0]
    assert not torch.allclose(gated, plain)


def test_a_program_of_ones_own_trains_with_what_it_has_registered(
    registries: None,
    checkpoint: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, settings = code_of("A program of your own")
    arguments = (
        f"train -m {checkpoint} --data {data} --max-steps 1 --device cpu -o {tmp_path / 'run'}"
    )
    monkeypatch.setattr(sys, "argv", ["gated.py", *arguments.split(), "--set", settings])
    new_module("A switch")
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            exec(program, {})
    finally:
        signal.signal(signal.SIGTERM, terminated)
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{tmp_path / 'run' / 'model'}\n")
    assert load_model(tmp_path / "run" / "model").config.extensions == ("channel_gate",)


def code_of(section: str) -> tuple[str, str]:
    """The program of a section, and what its command puts behind ``--set``."""
    text = (REPOSITORY / "docs" / "extending.md").read_text("utf-8").split(f"\n## {section}\n")[1]
    return text.split("```python\n")[1].split("```")[0], text.split("--set '")[1].split("'")[0]


def test_what_nobody_has_registered_is_named(llama: Path) -> None:
    with pytest.raises(ConfigError, match="no extension of the fusion is called 'chanel_gate'"):
        tiny_models.build(llama, extensions=("chanel_gate",))
    stage = tiny_models.training_config(llama, loss_weights={"dif": 1.0}).stage2
    with pytest.raises(ConfigError, match="loss_weights names 'dif'"):
        loss_weights(stage)


def test_a_data_set_of_another_package(registries: None, tmp_path: Path) -> None:
    row = '{"picture": "1.png", "q": "Is it large?", "a": "Yes", "doctor": "A"}'
    (tmp_path / "pairs_train.jsonl").write_text(row + '\n{"picture": "2.png", "a": "no"}\n')
    (tmp_path / "pairs_test.jsonl").write_text(row + "\n")
    with pytest.raises(InputError, match="looks like no known format"):
        read_records(tmp_path)
    register_format(new_module("A data set").FORMAT)
    options = ReadOptions()
    items = list(stream_records(tmp_path, options=options))
    assert [getattr(each, "split", None) for each in items] == ["test", "train", None]
    assert (items[0].answer_type, items[0].image) == ("CLOSED", "pictures/1.png")
    assert items[2].reason == "field 'q' is missing or empty"
    assert any("doctor" in line for line in options.notes.lines())
    with pytest.raises(InputError, match="a format is called 'pairs' already"):
        register_format(FORMATS["pairs"])


def test_a_metric_profile_of_another_package(registries: None) -> None:
    profile = new_module("A metric profile").PROFILE
    profiles.register_profile(profile)
    records = [Record("1", "1.png", "?", "Left lung"), Record("2", "2.png", "?", "heart")]
    predictions = {"1": Prediction("1", "left one"), "2": Prediction("2", "a heart")}
    scores = score_all(records, predictions, profiles.rule_profiles())
    assert scores.values[:, scores.columns_of(profile)][:, 0].tolist() == [1, 0]
    assert profiles.get_profile("first-word") is profile


def test_a_command_of_ones_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = new_module("A command")
    monkeypatch.setitem(sys.modules, "biod2c_cli.commands.count", module)
    (hunk,) = diff_of("A command")["biod2c_cli/app.py"]
    (added,) = [line for line in hunk if line.startswith("+")]
    name, text = json.loads("[" + added[1:].strip().rstrip(",").replace('": "', '", "') + "]")
    monkeypatch.setitem(app.COMMANDS, name, text)
    result = CliRunner().invoke(app.app, ["count", str(data)])
    assert (result.exit_code, result.stdout) == (0, "12\n")
