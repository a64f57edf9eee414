"""Two CPU processes and one process are the same training: DDP, FSDP, ZeRO-2, ZeRO-3."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from biod2c_core.config import TrainingConfig, dump_config
from biod2c_core.data.images import load_image
from biod2c_core.model.answering import Answerer
from biod2c_core.training.logs import read_log
from biod2c_core.training.run import train

STEPS = 6
# Two processes add the same numbers in another order: float32 rounding of 1e-7 in the first step, which
# AdamW, dividing gradients near zero by their own size, lets grow by about ten a few steps later.
TOLERANCE = 1e-4

needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="deepspeed is not installed; extra 'train'"
)
ENGINES = [
    pytest.param("ddp", [], id="ddp"),
    pytest.param("fsdp", ["--fsdp"], id="fsdp"),
    pytest.param("zero2", ["--zero", 2], id="zero2", marks=needs_deepspeed),
    pytest.param("zero3", ["--zero", 3], id="zero3", marks=needs_deepspeed),
]


def settings(llama: Path, **changes: Any) -> TrainingConfig:
    """Without dropout: each process draws its own."""
    values = {"max_steps": STEPS, "batch_size": 8, "save_every": 3, "keep": 0, **changes}
    config = tiny_models.training_config(llama, **values)
    lora = replace(config.model.lora, dropout=0.0)
    return replace(config, model=replace(config.model, fusion_dropout=0.0, lora=lora))


def command(data: Path, output: Path, preset: Path, *more: object) -> list[str]:
    line = [sys.executable, "-m", "biod2c_cli", "train", "-d", data, "-o", output]
    return [str(each) for each in (*line, "--preset", preset, *more)]


def go(*line: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*line), capture_output=True, text=True, timeout=900, env=environment()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_log(run / "log.jsonl") if "loss" in row]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 records: the batches of two processes are full in every epoch."""
    return tiny_models.write_data(tmp_path_factory.mktemp("data"), count=16)


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
    engine: str, flags: list[Any], alone: list[float], records: Path, preset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    whole = go(records, run, preset, "--processes", 2, *flags)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.strip().splitlines()[-1] == str(run / "model")
    assert json.loads((run / "run.json").read_text())["engine"] == engine
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)

    answerer = Answerer.load(str(run / "model"), "cpu")
    image = load_image(records.parent / "0.png")
    assert 0 < answerer.answer([image], ["is it?"], max_new_tokens=2)[0].confidence <= 1
    if engine in ("fsdp", "zero3"):
        refused = go(records, run, preset, "--processes", 2, *flags, "--resume")
        assert refused.returncode == 2
        assert "such a run cannot be resumed yet" in refused.stderr
        return

    shutil.rmtree(run / "model")  # as it was when half of the steps were done
    shutil.rmtree(run / "checkpoints" / "checkpoint-6")
    resumed = go(records, run, preset, "--processes", 2, *flags, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)
    steps = [row["step"] for row in read_log(run / "log.jsonl") if "loss" in row]
    assert steps == list(range(1, STEPS + 1))


def test_resuming_with_another_number_of_processes(
    llama: Path, alone: list[float], records: Path, preset: Path, tmp_path: Path
) -> None:
    """Plain data parallel: begun by one process with the whole batch, ended by two."""
    run = tmp_path / "run"
    config = settings(llama)
    stop = tiny_models.Silent()
    stop.step = lambda done, metrics: (  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGTERM) if done == 3 else None
    )
    with pytest.raises(Exception, match="stopped by SIGTERM after step 3"):
        train(config, 2, [records], run, stop, device="cpu")
    resumed = go(records, run, preset, "--processes", 2, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)
    refused = go(records, run, preset, "--processes", 1, "--resume")
    assert refused.returncode == 2
    assert "batch_size x gradient_accumulation x processes=8, not 4" in refused.stderr


def test_two_launches_that_meet_at_one_address_train_together(
    alone: list[float], records: Path, preset: Path, tmp_path: Path
) -> None:
    """Two "nodes" of one process each, as two machines would be started."""
    run = tmp_path / "run"
    place = ["--processes", 1, "--nodes", 2, "--master", "127.0.0.1:29713"]
    lines = [command(records, run, preset, *place, "--node-rank", rank) for rank in (0, 1)]
    nodes = [
        subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        for line in lines
    ]
    ends = [node.communicate(timeout=900) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert ends[0][0].strip() == str(run / "model")
    assert ends[1][0] == ""
    assert losses(run) == pytest.approx(alone, rel=TOLERANCE)


def test_sigterm_reaches_all_processes_and_the_step_is_saved(
    records: Path, preset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    line = command(records, run, preset, "--processes", 2, "--max-steps", 500)
    with subprocess.Popen(line, stderr=subprocess.PIPE, env=environment(), text=True) as process:
        while not (run / "log.jsonl").exists() and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM after step" in errors
    assert list((run / "checkpoints").glob("checkpoint-*/complete.json"))
