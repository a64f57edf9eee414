"""A run that was stopped anywhere goes on as if it never had been: same losses, same bits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from biod2c_core.config import TrainingConfig
from biod2c_core.errors import InputError
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.training import checkpointing
from biod2c_core.training.checkpointing import last_complete_checkpoint
from biod2c_core.training.divergence import LossWatch
from biod2c_core.training.logs.run_log import RATES, read_log
from biod2c_core.training.train import train

STEPS = 7  # of three an epoch: checkpoints in the middle and at the end of epochs


def config_of(llama: Path, **changes: Any) -> TrainingConfig:
    """Dropout everywhere, two questions an image: all that could depend on where a run began."""
    values = {"max_steps": STEPS, "save_every": 1, "keep": 0, "questions_per_image": 2, **changes}
    return tiny_models.training_config(llama, **values)


def go(config: TrainingConfig, data: Path, output: Path, resume: bool) -> tiny_models.Silent:
    reporter = tiny_models.Silent()
    train(config, 2, [data], output, reporter, resume=resume, device="cpu")
    return reporter


def losses(output: Path) -> list[dict[str, Any]]:
    rows = [row for row in read_log(output / "log.jsonl") if "loss" in row]
    return [{key: row[key] for key in row if key not in RATES} for row in rows]


def stop_at(run: Path, step: int, place: Path) -> Path:
    """What a run folder looks like when the run is killed just after a checkpoint."""
    shutil.copytree(run, place)
    shutil.rmtree(place / "model")
    for path in (place / "checkpoints").iterdir():
        if int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)
    return place


def assert_same(first: Path, second: Path) -> None:
    assert losses(first) == losses(second)
    one, two = load_model(first / "model").state_dict(), load_model(second / "model").state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def whole(llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    output = tmp_path_factory.mktemp("whole") / "run"
    go(config_of(llama), data, output, resume=False)
    return output


@pytest.mark.parametrize("step", [2, 3, 4])
def test_resuming_gives_the_same_losses_and_bits_as_never_stopping(
    step: int, whole: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    stopped = stop_at(whole, step, tmp_path / "run")
    reporter = go(config_of(llama), data, stopped, resume=True)
    assert reporter.started == [(STEPS, step)]
    assert reporter.done == list(range(step + 1, STEPS + 1))
    assert_same(whole, stopped)


def test_a_run_may_go_on_with_workers_and_gives_the_same_bits(
    whole: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    """From the middle of an epoch over the end of two: each begins with batches read ahead."""
    stopped = stop_at(whole, 2, tmp_path / "run")
    reporter = go(config_of(llama, workers=1), data, stopped, resume=True)
    assert reporter.done == list(range(3, STEPS + 1))
    assert_same(whole, stopped)


def test_the_same_with_accumulated_batches_and_cached_features(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOD2C_CACHE", str(tmp_path / "cache"))
    config = config_of(
        llama, max_steps=4, batch_size=2, gradient_accumulation=2, cache_features=True
    )
    read: list[int] = []
    check = LossWatch.check

    def counted(watch: LossWatch, *given: Any) -> None:
        read.append(len(watch._unread))
        check(watch, *given)

    monkeypatch.setattr(LossWatch, "check", counted)
    go(config, data, tmp_path / "whole", resume=False)
    stopped = stop_at(tmp_path / "whole", 2, tmp_path / "run")
    go(config, data, stopped, resume=True)
    assert_same(tmp_path / "whole", stopped)
    assert read == [2] * 6  # both losses of an update at once


def test_an_incomplete_checkpoint_is_skipped(
    whole: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    """Cut off while it was written: no list of its files, or a file shorter than the list says."""
    stopped = stop_at(whole, 5, tmp_path / "run")
    (stopped / "checkpoints" / "checkpoint-5" / "complete.json").unlink()
    optimizer = stopped / "checkpoints" / "checkpoint-4" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])
    (stopped / "checkpoints" / "checkpoint-3" / "rng_state.pth").unlink()
    (stopped / "checkpoints" / "checkpoint-2" / "complete.json").write_text('{"model')
    (stopped / "checkpoints" / "checkpoint-best").mkdir()
    found = last_complete_checkpoint(stopped / "checkpoints")
    assert found is not None
    assert found.name == "checkpoint-1"
    folder, size = stopped / "checkpoints", optimizer.stat().st_size
    reporter = go(config_of(llama), data, stopped, resume=True)
    assert reporter.started == [(STEPS, 1)]
    assert reporter.notes[:3] == [
        f"{folder}/checkpoint-5 is passed over: complete.json is missing",
        f"{folder}/checkpoint-4 is passed over: optimizer.pt has {size} bytes of {size + 1}",
        f"{folder}/checkpoint-3 is passed over: rng_state.pth is missing",
    ]
    assert reporter.notes[3].startswith(f"{folder}/checkpoint-2 is passed over: complete.json")
    assert_same(whole, stopped)


def test_the_log_says_every_step_once(whole: Path, llama: Path, data: Path, tmp_path: Path) -> None:
    """Steps after the checkpoint were logged before the kill, the last line of them half."""
    stopped = stop_at(whole, 4, tmp_path / "run")
    text = (stopped / "log.jsonl").read_text()
    (stopped / "log.jsonl").write_text(text[: text.index('"step": 6') + 30])
    go(config_of(llama), data, stopped, resume=True)
    assert [row["step"] for row in losses(stopped)] == list(range(1, STEPS + 1))
    assert_same(whole, stopped)


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    whole: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    stopped = stop_at(whole, 0, tmp_path / "run")
    reporter = go(config_of(llama), data, stopped, resume=True)
    assert reporter.started == [(STEPS, 0)]
    assert_same(whole, stopped)


def test_resume_of_nothing_is_a_start(whole: Path, llama: Path, data: Path, tmp_path: Path) -> None:
    go(config_of(llama), data, tmp_path / "run", resume=True)
    assert_same(whole, tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(
    whole: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    done = shutil.copytree(whole, tmp_path / "run")
    reporter = go(config_of(llama), data, done, resume=True)
    assert reporter.done == []
    assert_same(whole, done)


def test_a_finished_run_of_whole_epochs_is_left_as_it_is(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    config = config_of(llama, max_steps=0, epochs=1.0)
    go(config, data, tmp_path / "run", resume=False)
    done = shutil.copytree(tmp_path / "run", tmp_path / "again")
    assert go(config, data, done, resume=True).done == []
    assert_same(tmp_path / "run", done)


def test_the_last_checkpoint_outlives_a_kill_while_the_next_is_written(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where only one is kept."""
    publish = checkpointing.publish

    def killed(written: Path, place: Path) -> None:
        if place.name == "checkpoint-2":
            raise KeyboardInterrupt
        publish(written, place)

    monkeypatch.setattr("biod2c_core.training.trainer.publish", killed)
    with pytest.raises(KeyboardInterrupt):
        go(config_of(llama, keep=1), data, tmp_path, resume=False)
    found = last_complete_checkpoint(tmp_path / "checkpoints")
    assert found == tmp_path / "checkpoints" / "checkpoint-1"


def test_the_final_model_appears_whole_or_not_at_all(
    whole: Path, llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = stop_at(whole, STEPS, tmp_path / "run")

    def killed(folder: Path, model: Any, *_: Any) -> None:
        model.save_pretrained(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("biod2c_core.training.train.save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            go(config_of(llama), data, stopped, resume=True)
    assert not (stopped / "model").exists()
    go(config_of(llama), data, stopped, resume=True)
    assert_same(whole, stopped)
    assert not list(stopped.glob("*.partial"))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("stage2", "batch_size", 2),
        ("stage2", "seed", 1),
        ("stage2", "queue_size", 2),
        ("model", "prompt", "Q: {question}"),
        ("model", "fusion_layers", 3),
    ],
)
def test_another_model_or_order_is_refused(
    section: str, key: str, value: Any, whole: Path, llama: Path, data: Path
) -> None:
    config = config_of(llama)
    changed = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    with pytest.raises(InputError, match=rf"was started with {section}\.{key}=.*, not {value!r}"):
        go(changed, data, whole, resume=True)


def test_another_stage_is_refused(whole: Path, llama: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"is a run of stage 2, not 1\. Resume with --stage 2"):
        train(config_of(llama), 1, [data], whole, tiny_models.Silent(), resume=True)


def test_no_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "nothing") is None
