"""Checkpoints of a run that has diverged: those with exploded weights are no place to go on from."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist

from biod2c_core.atomic import write_json
from biod2c_core.data.records import Record
from biod2c_core.errors import DivergenceError
from biod2c_core.foreign import read_json
from biod2c_core.training.checkpointing import last_complete_checkpoint, numbered_checkpoints

WEIGHTS = "weights.json"  # in each checkpoint: its largest trained weight, and that of the start
ASIDE = "diverged"
_EXPLODED = 100.0  # times the largest weight of the start, or 1


class LossWatch:
    """The losses of an update's micro-batches, read together: to read one is to wait for the GPU.

    Args:
        most: A larger loss is refused; 0 for no limit.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._unread: list[tuple[Tensor, Tensor | None]] = []

    def add(self, loss: Tensor, rows: Tensor | None) -> None:
        """The loss of a micro-batch, a scalar, and which records (B,) it holds."""
        self._unread.append((loss.detach().float(), rows))

    def check(self, records: Sequence[Record], checkpoints: Path, step: int) -> None:
        """Refuse a loss that is not finite or too large, among those since the last call.

        Args:
            records: That the rows count.
            checkpoints: The run's ``checkpoints``, where those that have exploded are set aside.
            step: The last one done.

        Raises:
            DivergenceError: There is one; its records are named.
        """
        unread, self._unread = self._unread, []
        values = torch.stack([loss for loss, _ in unread]).tolist()
        for value, (_, rows) in zip(values, unread, strict=True):
            if math.isfinite(value) and (not self._most or value <= self._most):
                continue
            where = ""
            if rows is not None:
                ids = [records[row].id for row in rows.tolist()]
                where = f"; records of the batch: {', '.join(ids)}"
            aside = set_aside(checkpoints, -1 if math.isfinite(value) else step)
            raise DivergenceError(
                f"the loss is {value:.6g} at step {step + 1}{where}{aside}",
                "Lower the learning rate, or look at these records.",
            )


@torch.no_grad()
def largest_weight(parameters: Iterable[nn.Parameter], device: torch.device) -> float:
    """Largest magnitude of what is trained, over all processes; infinite where one is not a number.

    Args:
        parameters: Of the model, in this process whole or in part.
        device: Where the processes exchange it.
    """
    parts = (_local(each) for each in parameters if each.requires_grad)
    found = [part.abs().amax().float().to(device) for part in parts if part.numel()]
    most = torch.stack(found).amax() if found else torch.zeros((), device=device)
    most = torch.nan_to_num(most, nan=math.inf, posinf=math.inf)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(most, dist.ReduceOp.MAX)
    return float(most)


def _local(parameter: nn.Parameter) -> Tensor:
    """The part of a parameter that this process holds."""
    if hasattr(parameter, "ds_tensor"):
        part: Tensor = parameter.ds_tensor
        return part
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter.detach()


def note_weights(checkpoint: Path, largest: float, at_start: float) -> None:
    """Write into a checkpoint how large its weights are."""
    write_json(checkpoint / WEIGHTS, {"largest": largest, "at_start": at_start})


def set_aside(checkpoints: Path, step: int) -> str:
    """Rename the checkpoints that a run which has diverged must not go on from.

    These are the one whose weights gave a loss that is not finite, and all with exploded weights.

    Args:
        checkpoints: The run's ``checkpoints``.
        step: The last one done before a loss that is not finite; -1 if the loss is merely too large.

    Returns:
        What was done, and from where the run can go on; empty if all were left.
    """
    bad = [
        path
        for number, path in numbered_checkpoints(checkpoints)
        if number == step or _has_exploded(path)
    ]
    for path in bad:
        if not path.exists():  # another process has done it
            continue
        place = path.with_name(f"{ASIDE}-{path.name.rpartition('-')[2]}")
        shutil.rmtree(place, ignore_errors=True)  # of an earlier attempt
        with suppress(OSError):  # or does it now
            path.rename(place)
    if not bad:
        return ""
    names = ", ".join(path.name for path in bad)
    last = last_complete_checkpoint(checkpoints)
    rest = f"{last.name} is left to go on from" if last else "none is left to go on from"
    return f"; {names} had exploded, set aside as {ASIDE}-STEP; {rest}"


def _has_exploded(checkpoint: Path) -> bool:
    try:
        said = read_json(checkpoint / WEIGHTS)
        most, at_start = said["largest"], said["at_start"]
        return most is None or most > _EXPLODED * max(1.0, at_start)
    except (OSError, ValueError, TypeError, KeyError):  # of an earlier version, or damaged
        return False
