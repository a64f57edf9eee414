"""What the trainer does between the steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainerControl

from biod2c_core.training import checkpointing
from biod2c_core.training.checkpointing import StopOnRequest, Termination
from biod2c_core.training.trainer import BioD2CTrainer


def step_end(stopper: StopOnRequest, processes: int) -> TrainerControl:
    control = TrainerControl()
    arguments: Any = SimpleNamespace(world_size=processes)
    stopper.on_step_end(arguments, None, control)  # type: ignore[arg-type]
    return control


def test_a_request_while_the_processes_wait_for_each_other_stops_at_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    termination = Termination()
    stopper = StopOnRequest(termination, torch.device("cpu"))

    def meanwhile(asked: torch.Tensor) -> None:
        termination.requested = True  # as the handler of SIGTERM does

    monkeypatch.setattr(checkpointing.dist, "all_reduce", meanwhile)
    first = step_end(stopper, 2)
    assert not first.should_training_stop  # the other processes go on too
    assert termination.requested
    second = step_end(stopper, 2)
    assert second.should_training_stop
    assert second.should_save


def test_the_request_of_another_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    termination = Termination()
    stopper = StopOnRequest(termination, torch.device("cpu"))
    monkeypatch.setattr(checkpointing.dist, "all_reduce", lambda asked: asked.add_(1))
    assert step_end(stopper, 2).should_training_stop
    assert termination.requested


def test_without_a_request_training_goes_on() -> None:
    control = step_end(StopOnRequest(Termination(), torch.device("cpu")), 1)
    assert not control.should_training_stop
    assert not control.should_save


@pytest.mark.parametrize(
    ("count", "size", "processes"), [(6, 4, 2), (5, 2, 2), (1, 4, 3), (8, 4, 2)]
)
def test_each_validation_row_counts_once_however_the_last_batches_are_filled_up(
    count: int, size: int, processes: int
) -> None:
    """Six rows in batches of four on two processes, and so on, as accelerate deals them out."""
    counted: list[int] = []
    for index in range(processes):
        batches = BatchSampler(SequentialSampler(range(count)), size, drop_last=False)
        own: Any = SimpleNamespace(_last_row=-1)
        own.args = SimpleNamespace(
            per_device_eval_batch_size=size, world_size=processes, process_index=index
        )
        for batch in BatchSamplerShard(batches, processes, index, even_batches=True):
            rows = torch.tensor(batch)
            counted += rows[~BioD2CTrainer._met_before(own, rows)].tolist()
            own._last_row = max(own._last_row, max(batch))
    assert sorted(counted) == list(range(count))
