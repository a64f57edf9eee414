"""Full disks, SIGTERM, and SIGKILL at any moment: what is saved is whole, and nothing else counts."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from biod2c_core.config import dump_config
from biod2c_core.errors import CheckpointError, DivergenceError, InputError, TerminatedError
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.training.checkpointing import (
    PARTIAL,
    Termination,
    find_damage,
    is_storage_failure,
    last_complete_checkpoint,
    publish,
)
from biod2c_core.training.logs.run_log import RATES, read_log
from biod2c_core.training.train import train


class AtStep(tiny_models.Silent):
    """Does something once after a step."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__()
        self.at, self.action = step, action

    def step(self, done: int, metrics: dict[str, float]) -> None:
        super().step(done, metrics)
        if done == self.at:
            self.action()


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = (load_model(run / "model").state_dict() for run in (first, second))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_sigterm_saves_the_step_and_a_resumed_run_ends_the_same(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_models.training_config(llama, max_steps=5, save_every=100)
    reporter = AtStep(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TerminatedError, match="stopped by SIGTERM after step 2, which is saved"):
        train(config, 2, [data], tmp_path / "run", reporter, device="cpu")
    assert reporter.done == [1, 2]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (tmp_path / "run" / "model").exists()

    resumed = tiny_models.Silent()
    train(config, 2, [data], tmp_path / "run", resumed, device="cpu", resume=True)
    assert resumed.started == [(5, 2)]
    train(config, 2, [data], tmp_path / "whole", tiny_models.Silent(), device="cpu")
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def ask_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # the handler runs before this is over


def test_sigterm_before_the_first_step_ends_at_once() -> None:
    with Termination(), pytest.raises(TerminatedError, match="stopped by SIGTERM"):
        ask_to_end()
    with Termination() as termination:
        termination.training = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.requested
        with pytest.raises(TerminatedError):  # the second one does not wait for the step
            ask_to_end()


def test_a_full_disk_is_named_and_the_checkpoint_before_is_used(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk: the system refuses the write."""
    config = tiny_models.training_config(llama, max_steps=4, save_every=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = AtStep(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1])))
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot write checkpoint-4 to .*checkpoint-2 is whole"
        ):
            train(config, 2, [data], tmp_path, full, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]
    reporter = tiny_models.Silent()
    train(config, 2, [data], tmp_path, reporter, device="cpu", resume=True)
    assert reporter.started == [(4, 2)]
    assert not (tmp_path / "checkpoints" / PARTIAL).exists()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_folder_that_is_removed_ends_the_run_and_its_log_begins_with_the_first_row(
    step: int, llama: Path, data: Path, tmp_path: Path
) -> None:
    config, run = tiny_models.training_config(llama, max_steps=3, log_every=1), tmp_path / "run"
    removed = AtStep(step, lambda: shutil.rmtree(run))
    with pytest.raises(
        InputError, match=f"{run} was removed or replaced .* the same command again"
    ):
        train(config, 2, [data], run, removed, device="cpu")
    assert not list(run.glob("log.jsonl")) + list(run.glob("model"))
    train(config, 2, [data], run, tiny_models.Silent(), device="cpu")
    assert [row["step"] for row in read_log(run / "log.jsonl") if "loss" in row] == [1, 2, 3]


def test_a_published_folder_is_whole_and_replaces_what_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / PARTIAL / "inner").mkdir(parents=True)
    (tmp_path / PARTIAL / "inner" / "a").write_text("abc")
    (tmp_path / "checkpoint-3").mkdir()
    assert find_damage(tmp_path / "checkpoint-3") == "complete.json is missing"
    publish(tmp_path / PARTIAL, tmp_path / "checkpoint-3")
    assert find_damage(tmp_path / "checkpoint-3") == ""
    (tmp_path / "checkpoint-3" / "inner" / "a").write_text("ab")
    assert find_damage(tmp_path / "checkpoint-3") == "inner/a has 2 bytes of 3"
    (tmp_path / "checkpoint-3" / "complete.json").write_text("[]")
    assert find_damage(tmp_path / "checkpoint-3").startswith("complete.json cannot be read")


def test_an_exploding_loss_names_step_and_records(llama: Path, data: Path, tmp_path: Path) -> None:
    config = tiny_models.training_config(llama, max_steps=2, max_loss=0.01)
    with pytest.raises(DivergenceError, match=r"at step 1; records of the batch: (r\d+(, )?){4}\."):
        train(config, 2, [data], tmp_path, tiny_models.Silent(), device="cpu")


def test_rates_and_memory_are_logged(llama: Path, data: Path, tmp_path: Path) -> None:
    config = tiny_models.training_config(llama, max_steps=2)
    train(config, 2, [data], tmp_path, tiny_models.Silent(), device="cpu")
    rows = [row for row in read_log(tmp_path / "log.jsonl") if "loss" in row]
    assert all(row[name] > 0 for row in rows for name in RATES)


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import biod2c_core
import torch
torch.set_num_threads(1)
import peft, timm, transformers.models.llama.modeling_llama
from biod2c_core.config import load_config
from biod2c_core.training.logs.run_log import SilentReporter
from biod2c_core.training.train import train

preset, data, output = sys.argv[1:4]
log = Path(output) / "log.jsonl"

def start(place):
    child = os.fork()
    if child == 0:
        try:
            train(load_config(preset), 2, [Path(data)], Path(place), SilentReporter(),
                  resume=True, device="cpu")
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return child

def written():
    return log.stat().st_mtime_ns if log.exists() else 0

moments = random.Random(6)
whole = start(output + "-whole")  # beside the other: on two cores it costs no time
for _ in range(10):
    before, child = written(), start(output)
    for _ in range(moments.randint(1, 5)):  # changes of the log: forgotten steps, then new ones
        while written() == before and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.002)
        before = written()
    time.sleep(moments.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for child in (start(output), whole):
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_ten_random_moments_the_weights_are_those_of_a_run_never_killed(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """In forked processes, so that only the first one pays for the imports."""
    config = tiny_models.training_config(llama, max_steps=60, save_every=3, keep=2, batch_size=2)
    config = replace(config, model=replace(config.model, fusion_layers=1))
    (tmp_path / "toy.yaml").write_text(dump_config(config))
    command = [sys.executable, "-c", KILLER, tmp_path / "toy.yaml", data, tmp_path / "run"]
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=900
    )
    assert done.stdout.split() == ["-9"] * 10 + ["0", "0"], done.stdout + done.stderr
    assert_same_weights(tmp_path / "run", tmp_path / "run-whole")
    steps = [row["step"] for row in read_log(tmp_path / "run" / "log.jsonl") if "loss" in row]
    assert steps == list(range(1, 61))
    last = last_complete_checkpoint(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert last.name == "checkpoint-60"


def test_a_folder_that_is_gone_while_torch_saves_is_named_as_a_failure_of_the_disk(
    tmp_path: Path,
) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.save({}, tmp_path / "gone" / "optimizer.pt")
    assert is_storage_failure(caught.value)
