"""The losses of a run, added up over micro-batches, updates and processes until the log asks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor
from torch import distributed as dist

from biod2c_core.model import equations, losses

Numbers = Mapping[str, Tensor]  # scalars by the name of a loss


class LossMeter:
    """Sums of losses by name.

    Args:
        device: Where processes meet.
        processes: How many there are; all must call the same methods at the same time.
    """

    def __init__(self, device: torch.device, processes: int) -> None:
        self._device = device
        self._processes = processes
        self._shares: list[Numbers] = []
        self._updates = 0
        self.start_validation()

    def begin_update(self, batches: Iterable[losses.Batch]) -> dict[str, Tensor]:
        """An update of these micro-batches begins.

        Returns:
            Over how many items of the update, in all processes, each loss is averaged.
        """
        self._updates += 1
        return self._sum(map(losses.count_items, batches), torch.int64)

    def add_share(self, shares: Numbers) -> None:
        """What a micro-batch adds to the losses of its update."""
        self._shares.append({name: share.detach() for name, share in shares.items()})

    def take_training(self) -> dict[str, float]:
        """``loss_NAME``: means over the updates since the last call."""
        shares, self._shares = self._shares, []
        updates, self._updates = self._updates, 0
        if not updates:
            return {}
        sums = self._sum(shares, torch.float32)
        ones = [{name: torch.ones(()) for share in shares for name in share}]
        seen = self._sum(ones, torch.int64)
        return {f"loss_{name}": float(sums[name]) / updates for name in sums if seen[name] > 0}

    def start_validation(self) -> None:
        """The validation set will be gone through."""
        self._totals: list[Numbers] = []
        self._counts: list[Numbers] = []

    def add_validation(self, batch: losses.Batch, means: Numbers) -> None:
        """The losses of a batch of the validation set, averaged over that batch."""
        counts = losses.count_items(batch)
        self._totals.append({name: mean.detach() * counts[name] for name, mean in means.items()})
        self._counts.append({name: counts[name] for name in means})

    def take_validation(self, weights: Mapping[str, float]) -> dict[str, float]:
        """``eval_loss`` and its terms ``eval_loss_NAME``, averaged over the whole validation set."""
        sums = self._sum(self._totals, torch.float32)
        counts = self._sum(self._counts, torch.int64)
        means = {name: sums[name] / counts[name] for name in sums if counts[name] > 0}
        terms = {f"eval_loss_{name}": float(mean) for name, mean in means.items()}
        return {"eval_loss": float(equations.total_loss(means, weights)), **terms}

    def _sum(self, parts: Iterable[Numbers], dtype: torch.dtype) -> dict[str, Tensor]:
        """Sums over these parts and all processes; zero for a loss that no part has."""
        totals = torch.zeros(len(losses.LOSSES), dtype=dtype, device=self._device)
        for part in parts:
            for index, name in enumerate(losses.LOSSES):
                if name in part:
                    totals[index] += part[name].to(totals)
        if self._processes > 1:
            dist.all_reduce(totals)
        return dict(zip(losses.LOSSES, totals.unbind(), strict=True))


def loss_of_batch(
    batch: losses.Batch, shares: Numbers, counts: Numbers, weights: Mapping[str, float]
) -> Tensor:
    """L_total of a micro-batch by itself, from its shares in the losses of its update.

    Args:
        batch: Its inputs.
        shares: Its losses, averaged over ``counts``.
        counts: The items of the whole update.
        weights: Of the losses.
    """
    own = losses.count_items(batch)
    alone = {
        name: share.detach() * counts[name].clamp(min=1) / own[name].clamp(min=1)
        for name, share in shares.items()
    }
    return equations.total_loss(alone, weights)


def stand_in(inputs: dict[str, Tensor], wanted: Collection[str]) -> None:
    """Give a batch without any queue or box an empty one where another batch of the update has some.

    The processes of an engine that splits the weights must all run the same parts.
    """
    for name in wanted:
        loss = losses.LOSSES[name]
        if any(inputs.get(need) is None for need in loss.needs):
            inputs |= loss.stand_ins(inputs)
