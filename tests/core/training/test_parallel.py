"""Two CPU processes and one process are the same training: DDP, FSDP, ZeRO-2, ZeRO-3."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from forked import Ended, Forks, forks
from safetensors.torch import load_file

from biod2c_core.config import TrainingConfig, dump_config
from biod2c_core.data.images import load_image
from biod2c_core.errors import InputError, TerminatedError
from biod2c_core.evaluation.choosing import find_metric
from biod2c_core.evaluation.predict.predictions_file import read_predictions
from biod2c_core.model.generation import Answerer
from biod2c_core.training.checkpointing import numbered_checkpoints
from biod2c_core.training.logs.run_log import read_log
from biod2c_core.training.train import train

STEPS, SAVED = 5, 3  # of two an epoch: saved in the middle of the second one
# Two processes add the same numbers in another order: float32 rounding of 1e-7 in the first step, which
# AdamW, dividing gradients near zero by their own size, lets grow by about ten a few steps later.
TOLERANCE = 1e-4

FULL: dict[str, Any] = {  # at a rate that does not depend on when the run is to end
    "train": "full",
    "language_learning_rate": 2e-4,
    "weight_decay": 0.1,
    "schedule": "constant",
}
HAS_DEEPSPEED = find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(
    not HAS_DEEPSPEED, reason="deepspeed is not installed; extra 'train'"
)
ENGINES = [
    pytest.param("ddp", [], id="ddp"),
    pytest.param("fsdp", ["--fsdp"], id="fsdp"),
    pytest.param("zero2", ["--zero", 2], id="zero2", marks=needs_deepspeed),
    pytest.param("zero3", ["--zero", 3], id="zero3", marks=needs_deepspeed),
]


def settings(llama: Path, **changes: Any) -> TrainingConfig:
    """Without dropout: each process draws its own."""
    values = {"max_steps": STEPS, "batch_size": 8, "save_every": SAVED, "keep": 0}
    values |= {"attention_weight": 0.5, "answer_weight": 0.5, **changes}
    config = tiny_models.training_config(llama, **values)
    lora = replace(config.model.lora, dropout=0.0)
    return replace(config, model=replace(config.model, fusion_dropout=0.0, lora=lora))


def arguments(data: Path, output: Path, preset: Path, *more: object) -> list[str]:
    line = ["train", "-d", data, "-o", output, "--preset", preset, *more]
    return [str(each) for each in line]


def start(*line: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "biod2c_cli", *arguments(*line)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_log(run / "log.jsonl") if "loss" in row]


def assert_ended_well(ended: list[Ended]) -> None:
    assert [each.code for each in ended] == [0] * len(ended), [each.stderr for each in ended]


@pytest.fixture(scope="module")
def two() -> Iterator[Forks]:
    """Where two processes start at once."""
    with forks(*(["deepspeed"] if HAS_DEEPSPEED else [])) as started:
        yield started


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 records: in an epoch's second update one of two processes has three, the other one none."""
    return tiny_models.write_data(tmp_path_factory.mktemp("data"), count=11)


@pytest.fixture(scope="module")
def alone(llama: Path, records: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one process."""
    output = tmp_path_factory.mktemp("alone")
    train(settings(llama), 2, [records], output, tiny_models.Silent(), device="cpu")
    return losses(output)


@pytest.fixture
def preset(llama: Path, tmp_path: Path) -> Path:
    """Half the batch for each of two processes."""
    path = tmp_path / "two.yaml"
    path.write_text(dump_config(settings(llama, batch_size=4)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "flags"), ENGINES)
def test_two_processes_reach_the_losses_of_one_save_answer_and_resume(
    engine: str,
    flags: list[Any],
    two: Forks,
    alone: list[float],
    records: Path,
    preset: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    line = arguments(records, run, preset, "--processes", 2, *flags)
    whole = two.run(line, ranks=2)
    assert_ended_well(whole)
    assert [each.stdout for each in whole] == [f"{run / 'model'}\n", ""]
    assert json.loads((run / "run.json").read_text())["engine"] == engine
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)
    assert_answers(run / "model", records)

    shutil.rmtree(run / "model")  # as it was when half of the steps were done
    shutil.rmtree(run / "checkpoints" / f"checkpoint-{STEPS}")
    assert_ended_well(two.run([*line, "--resume"], ranks=2))
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)
    steps = [row["step"] for row in read_log(run / "log.jsonl") if "loss" in row]
    assert steps == list(range(1, STEPS + 1))

    trained = load_file(run / "model" / "model.safetensors")
    shutil.rmtree(run / "model")  # as if killed between the last checkpoint and the export
    assert_ended_well(two.run([*line, "--resume"], ranks=2))
    exported = load_file(run / "model" / "model.safetensors")
    assert trained.keys() == exported.keys()
    assert all(torch.equal(trained[name], exported[name]) for name in trained)
    assert_answers(run / "model", records)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [[], pytest.param(["--zero", 2], marks=needs_deepspeed)], ids=["ddp", "zero2"]
)
def test_two_processes_share_the_questions_and_choose_as_one(
    flags: list[Any], two: Forks, llama: Path, records: Path, tmp_path: Path
) -> None:
    held_out = tiny_models.write_data(tmp_path / "held_out", count=40)  # two batches of questions
    changes = {"max_steps": 2, "validate_every": 1, "save_every": 1, "ema_decay": 0.5}
    one, run = tmp_path / "one", tmp_path / "two"
    chosen = train(
        *(settings(llama, **changes), 2, [records], one, tiny_models.Silent()),
        validation=held_out,
        select=find_metric("token_f1"),
        device="cpu",
    ).chosen_step
    halves = tmp_path / "two.yaml"
    halves.write_text(dump_config(settings(llama, **changes, batch_size=4)))
    line = arguments(records, run, halves, "--processes", 2, *flags)
    line += ["--validation", str(held_out), "--select", "token_f1"]
    assert_ended_well(two.run(line, ranks=2))

    def answers(folder: Path, step: int) -> dict[str, str]:
        found = read_predictions(folder / "validation" / f"step-{step}.jsonl")
        return {name: each.answer for name, each in found.items()}

    def exported() -> tuple[int, dict[str, torch.Tensor]]:
        said = json.loads((run / "run.json").read_text())
        return said["chosen_step"], load_file(run / "model" / "model.safetensors")

    first, weights = exported()
    assert first == chosen
    assert answers(run, 1) == answers(one, 1)
    assert len(answers(run, 2)) == 40
    assert not list((run / "validation").glob("*.shard-*"))

    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "checkpoint-2")
    assert_ended_well(two.run([*line, "--resume"], ranks=2))
    again, same = exported()
    assert again == first
    assert all(torch.equal(weights[name], same[name]) for name in weights)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose head is its embedding, which others call from outside of it."""
    folder = tmp_path_factory.mktemp("tied")
    return tiny_models.save_language_model(folder, tie_word_embeddings=True)


@pytest.fixture(scope="module")
def fully_alone(tied: Path, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it trained by one process."""
    output = tmp_path_factory.mktemp("fully_alone")
    train(settings(tied, **FULL), 2, [records], output, tiny_models.Silent(), device="cpu")
    return output


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "flags"), [ENGINES[1], ENGINES[3]])
def test_full_fine_tuning_split_over_two_processes_is_that_of_one_and_resumes(
    engine: str,
    flags: list[Any],
    two: Forks,
    tied: Path,
    fully_alone: Path,
    records: Path,
    tmp_path: Path,
) -> None:
    preset, run = tmp_path / "two.yaml", tmp_path / "run"
    preset.write_text(dump_config(settings(tied, batch_size=4, **FULL)))
    line = arguments(records, run, preset, "--processes", 2, *flags)
    assert_ended_well(two.run([*line, "--max-steps", SAVED], ranks=2))
    shutil.rmtree(run / "model")
    assert_ended_well(two.run([*line, "--resume"], ranks=2))
    assert json.loads((run / "run.json").read_text())["engine"] == engine
    assert losses(run) == pytest.approx(losses(fully_alone), rel=TOLERANCE)
    expected, exported = (
        load_file(each / "model/model.safetensors") for each in (fully_alone, run)
    )
    assert expected.keys() == exported.keys()
    for name, value in expected.items():
        torch.testing.assert_close(exported[name], value, atol=2e-4, rtol=2e-3)
    assert_answers(run / "model", records)


def assert_answers(model: Path, records: Path) -> None:
    image = load_image(records.parent / "0.png")
    answer = Answerer.load(str(model), "cpu").answer([image], ["is it?"], max_new_tokens=2)[0]
    assert 0 < answer.confidence <= 1


def test_begun_by_one_process_and_ended_by_two_launches_that_meet_at_one_address(
    llama: Path, alone: list[float], records: Path, preset: Path, tmp_path: Path
) -> None:
    """The launches are started as on two machines, with half the batch each."""
    run = tmp_path / "run"
    config = settings(llama)
    stop = tiny_models.Silent()
    stop.step = lambda done, metrics: (  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGTERM) if done == SAVED else None
    )
    with pytest.raises(TerminatedError, match=f"stopped by SIGTERM after step {SAVED}"):
        train(config, 2, [records], run, stop, device="cpu")

    place = ["--processes", 1, "--nodes", 2, "--master", "127.0.0.1:29713", "--resume"]
    nodes = [start(records, run, preset, *place, "--node-rank", rank) for rank in (0, 1)]
    ends = [node.communicate(timeout=900) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert [out for out, _ in ends] == [f"{run / 'model'}\n", ""]
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)

    half = settings(llama, batch_size=4)
    with pytest.raises(InputError, match="batch_size x gradient_accumulation x processes=8, not 4"):
        train(half, 2, [records], run, tiny_models.Silent(), device="cpu", resume=True)


def test_sigterm_reaches_all_processes_and_the_step_is_saved(
    records: Path, preset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with start(records, run, preset, "--processes", 2, "--max-steps", 500) as process:
        while not (run / "log.jsonl").exists() and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=900)
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM after step" in errors
    [(step, saved)] = numbered_checkpoints(run / "checkpoints")[-1:]
    assert step == len(losses(run))
    assert (saved / "complete.json").exists()
