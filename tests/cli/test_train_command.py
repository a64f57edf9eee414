"""``biod2c train``: flags over presets, one-line refusals, and a run killed twice and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_cli.training_run import plan_run
from biod2c_core.config import dump_config, load_config
from biod2c_core.errors import InputError
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.training.checkpointing import last_complete_checkpoint
from biod2c_core.training.logs.run_log import RATES, read_log
from biod2c_core.training.train import train


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", "--device", "cpu", *map(str, arguments)])


def refused(result: Result) -> str:
    """The one line of a refusal."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def preset(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML file of tiny settings."""
    path = tmp_path_factory.mktemp("preset") / "toy.yaml"
    path.write_text(dump_config(tiny_models.training_config(llama, max_steps=2)))
    return path


def test_both_stages_from_the_command_line(preset: Path, data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    result = invoke("-d", data, "-o", first, "--preset", preset, "--stage", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{first / 'model'}\n"
    assert "2/2 training loss_nll" in result.stderr

    result = invoke("-d", data, "-o", second, "--preset", preset, "-m", first / "model", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["model_folder"] == str(second / "model")
    assert report["steps"] == 2
    assert 0 < report["trainable"] < report["parameters"]
    assert load_model(second / "model").config.lora is not None
    assert "loss_sem" in result.stderr

    change = ("-m", second / "model", "--set", "model.lora.r=4")
    result = invoke("-d", data, "-o", tmp_path / "third", "--preset", preset, *change)
    assert refused(result).startswith("error: model.lora.r cannot be changed, the checkpoint ")


def test_flags_win_over_settings_and_settings_over_the_preset(
    preset: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["biod2c", "train", "--set", "model.prompt=Q: {question} A:"])
    result = invoke(
        *("-d", data, "-o", tmp_path / "run", "--preset", preset, "--stage", 1),
        *("--set", "stage1.batch_size=3", "--set", "stage1.max_steps=9"),
        *("--set", "stage2.batch_size=5", "--set", "model.prompt=Q: {question} A:"),
        *("--max-steps", 1, "--learning-rate", "3e-4", "--seed", 7, "--no-bf16"),
    )
    assert result.exit_code == 0, result.stderr
    config = load_config(str(tmp_path / "run" / "config.yaml"))
    stage = config.stage1
    assert (stage.batch_size, stage.max_steps, stage.learning_rate) == (3, 1, 3e-4)
    assert (stage.seed, stage.bf16) == (7, False)
    assert (config.stage2.batch_size, config.stage2.max_steps) == (5, 2)
    assert config.model.prompt == "Q: {question} A:"
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["command"] == "biod2c train --set 'model.prompt=Q: {question} A:'"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--preset", "tinny"], "error: unknown preset 'tinny'. Did you mean 'tiny'?"),
        (["--preset", "none.yaml"], "error: cannot read none.yaml: No such file or directory"),
        (["--set", "stage2.lernrate=1"], "error: unknown key 'stage2.lernrate'. Did you mean"),
        (["--set", "stage2.seed=x"], "error: stage2.seed is 'x', expected int"),
        (["--set", "seed"], "error: 'seed' is not an assignment. Write key=value."),
        (["--batch-size", "0"], "error: stage2.batch_size is 0, expected at least 1"),
        (["--preset", "tiny"], "error: preset 'tiny' names no language model"),
        (["--model", "nothing"], "error: no checkpoint folder at nothing"),
        (["--device", "cuda:99"], "error: device 'cuda:99' is not here"),
        (["--set", "model.prompt=What?"], "error: the prompt is 'What?'"),
        (["--validation", "nothing"], "error: no data at nothing"),
        (["--select", "los"], "error: unknown metric 'los'. Did you mean 'loss'?"),
        (["--select", "loss"], "error: a checkpoint is to be selected by loss, but there are no"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], line: str, preset: Path, data: Path, tmp_path: Path
) -> None:
    result = invoke("-d", data, "-o", tmp_path / "run", "--preset", preset, *arguments)
    assert refused(result).startswith(line)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("option", ["--data", "--validation"])
def test_paths_are_checked_before_the_model_is_read(
    option: str, data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise InputError("the model is read", "Go on.")

    monkeypatch.setattr("biod2c_core.training.train.start_model", read)
    given = ("--stage", 2, "-d", data, "-o", tmp_path / "run", "-m", checkpoint)
    assert "the model is read" in refused(invoke(*given))  # where all paths are right
    assert refused(invoke(*given, option, "nothing")).startswith("error: no data at nothing")


def test_an_unreadable_line_is_named_with_its_file(
    preset: Path, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    lines = data.read_text().splitlines()
    broken.write_text("\n".join([*lines[:3], '{"id": "x", "image"', *lines[3:]]))
    result = invoke("-d", broken, "-o", tmp_path / "run", "--preset", preset)
    assert refused(result).startswith(f"error: {broken}:4: not JSON")


def test_a_record_longer_than_the_model_reads_is_named(
    preset: Path, data: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[5]["answer"] = "effusion " * 200
    (tmp_path / "0.png").write_bytes((data.parent / "0.png").read_bytes())
    (tmp_path / "long.jsonl").write_text(
        "".join(json.dumps({**row, "image": "0.png"}) + "\n" for row in rows)
    )
    line = refused(
        invoke("-d", tmp_path / "long.jsonl", "-o", tmp_path / "run", "--preset", preset)
    )
    assert line.startswith("error: record 'r5' takes ")
    assert "reads 256" in line


def test_a_loss_that_is_not_finite_has_a_code_of_its_own(
    preset: Path, data: Path, tmp_path: Path
) -> None:
    result = invoke(
        *("-d", data, "-o", tmp_path, "--preset", preset, "--learning-rate", "1e30"),
        *("--max-steps", 9, "--set", "stage2.max_grad_norm=0", "--set", "stage2.warmup_ratio=0"),
    )
    assert result.exit_code == 6
    assert "error: the loss is " in result.stderr


STOP_TWICE = """
import os, signal, sys
from pathlib import Path
import biod2c_core.training.train
from biod2c_cli import training_progress
from biod2c_cli.app import main
from biod2c_core.training.checkpointing import last_complete_checkpoint
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
checkpoints = Path(sys.argv.pop(1), "checkpoints")
child = os.fork()
stop, number = (8, signal.SIGINT) if child else (5, signal.SIGKILL)
if child:
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert last_complete_checkpoint(checkpoints) == checkpoints / "checkpoint-3"
step = training_progress.TrainingProgress.step
def step_and_stop(self, done, metrics):
    step(self, done, metrics)
    if done == stop:
        os.kill(os.getpid(), number)
training_progress.TrainingProgress.step = step_and_stop
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_run_killed_then_interrupted_then_resumed_is_the_run_never_stopped(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """SIGKILL between two checkpoints, Ctrl-C between the next, then to the end."""
    config = tiny_models.training_config(llama, max_steps=12, save_every=3, keep=1)
    (tmp_path / "toy.yaml").write_text(dump_config(config))
    run = tmp_path / "run"
    arguments = ["train", "-d", data, "-o", run, "--preset", tmp_path / "toy.yaml", "--resume"]
    command = [sys.executable, "-c", STOP_TWICE, run, *arguments, "--device", "cpu"]
    interrupted = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=900
    )
    assert interrupted.returncode == 130, interrupted.stderr
    assert interrupted.stdout == ""
    assert interrupted.stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in interrupted.stderr
    assert last_complete_checkpoint(run / "checkpoints") == run / "checkpoints" / "checkpoint-6"
    assert not (run / "model").exists()

    train(config, 2, [data], run, tiny_models.Silent(), device="cpu", resume=True)
    train(config, 2, [data], tmp_path / "whole", tiny_models.Silent(), device="cpu")
    resumed, whole = (
        [
            {key: row[key] for key in row if key not in RATES}
            for row in read_log(folder / "log.jsonl")
            if "loss" in row
        ]
        for folder in (run, tmp_path / "whole")
    )
    assert resumed == whole
    assert [row["step"] for row in whole] == list(range(1, 13))
    one, two = (load_model(f / "model").state_dict() for f in (run, tmp_path / "whole"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def run_file(preset: Path, data: Path, tmp_path: Path) -> Path:
    """A run in one file: its settings are changes of a preset."""
    lines = [f"preset: {preset}", f"data: [{data}]", f"output: {tmp_path / 'run'}", "stage: 1"]
    path = tmp_path / "run.yaml"
    path.write_text("\n".join([*lines, "stage1: {max_steps: 1, seed: 5}"]), encoding="utf-8")
    return path


def test_data_and_output_may_stand_in_the_file(run_file: Path, tmp_path: Path) -> None:
    result = invoke(run_file, "--seed", 6)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'run' / 'model'}\n"
    settings = load_config(str(tmp_path / "run" / "config.yaml")).stage1
    assert (settings.max_steps, settings.seed, settings.batch_size) == (1, 6, 4)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stage"] == 1
    other = plan_run(str(run_file), 2, "paper", "m", None, Path("v.jsonl"), tmp_path)
    assert (other.stage, other.checkpoint, other.output) == (2, "m", tmp_path)  # flags win
    assert (other.validation, other.config.stage1.seed) == (Path("v.jsonl"), 5)
    assert other.criterion is None
    run_file.write_text(f"{run_file.read_text()}\nselect: token_f1", encoding="utf-8")
    chosen = plan_run(str(run_file), None, None, None, None, None, None).criterion
    assert chosen is not None
    assert chosen.name == "multimedeval:token_f1"
    assert other.config.model == load_config("paper").model


@pytest.mark.parametrize(
    ("line", "arguments", "said"),
    [
        ("", ["--preset", "{run}", "-d", "x", "-o", "y"], "{run} describes a run, not only its"),
        ("outputs: x", [], "unknown key 'outputs'. Did you mean 'output'?"),
        ("stage2: {epoch: 1}", [], "unknown key 'stage2.epoch'. Did you mean 'stage2.epochs'?"),
        (
            "learning_rate: 1",
            [],
            "unknown key 'learning_rate'. Did you mean 'stage2.learning_rate'",
        ),
        ("stage: 3", [], "stage is 3. Use one of: 1, 2"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    line: str, arguments: list[str], said: str, run_file: Path
) -> None:
    text = run_file.read_text("utf-8").replace("stage: 1\n", "")
    run_file.write_text(f"{text}\n{line}\n", encoding="utf-8")
    given = [each.format(run=run_file) for each in arguments] or [run_file]
    assert said.format(run=run_file) in refused(invoke(*given))


def test_what_is_missing_says_where_it_may_stand(tmp_path: Path) -> None:
    assert "no data is given. Add --data FILE_OR_FOLDER, or 'data'" in refused(invoke())
    assert "no run folder is given. Add --output FOLDER" in refused(invoke("-d", "x.jsonl"))
    assert "'x.jsonl' is not a YAML file. Data goes behind --data" in refused(invoke("x.jsonl"))


def test_what_the_checkpoint_has_decided_cannot_stand_in_the_file(
    run_file: Path, checkpoint: Path
) -> None:
    run_file.write_text(run_file.read_text("utf-8") + "\nmodel: {scales: 2}\n", encoding="utf-8")
    line = refused(invoke(run_file, "-m", checkpoint))
    assert f"model.scales cannot be changed, the checkpoint {checkpoint} has decided it" in line


def test_the_embedded_model_is_named_where_there_is_none(data: Path, tmp_path: Path) -> None:
    assert "--model biod2c-tiny" in refused(invoke("-d", data, "-o", tmp_path / "run"))


def test_a_hub_name_says_at_once_that_the_hub_is_asked(data: Path, tmp_path: Path) -> None:
    result = invoke("-d", data, "-o", tmp_path / "run", "-m", "owner/model")
    assert result.exit_code == 2
    assert result.stderr.startswith("no folder owner/model here; asking the hub\nerror: ")
