"""The moving average of the trained weights (EMA), which is validated and exported in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "average.safetensors"  # in each checkpoint


def decay_at(step: int, decay: float) -> float:
    """The share of the average that is kept at a step: less at first, or the start would never be left."""
    return min(decay, (1 + step) / (10 + step))


class WeightAverage(TrainerCallback):
    """An average in float32, moved towards the weights after each step.

    Each process that holds the weights has its own, and all are equal.

    Args:
        decay: The largest share of the average that a step keeps.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._weights: dict[str, nn.Parameter] = {}
        self._means: dict[str, Tensor] = {}

    def begin(self, model: nn.Module, checkpoint: Path | None) -> None:
        """Average what is trained of a model.

        Args:
            model: Where its weights are going to stay.
            checkpoint: The one that training goes on from; by default the average starts as the weights.
        """
        self._weights = {
            name: each for name, each in model.named_parameters() if each.requires_grad
        }
        self._means = {name: each.detach().float().clone() for name, each in self._weights.items()}
        if checkpoint is not None:
            self.load(checkpoint)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the average towards the weights."""
        move = get_ema_multi_avg_fn(decay_at(state.global_step, self._decay))
        move([*self._means.values()], [each.detach().float() for each in self._weights.values()], 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model use the average for a while."""
        own = {name: each.detach().clone() for name, each in self._weights.items()}
        self.put_in_place()
        try:
            yield
        finally:
            self._put(own)

    def put_in_place(self) -> None:
        """Have the model use the average from now on."""
        self._put(self._means)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, each in self._weights.items():
            each.copy_(values[name])

    def save(self, checkpoint: Path) -> None:
        """Write the average into the folder of a checkpoint."""
        save_file(self._means, checkpoint / FILE)

    def load(self, checkpoint: Path) -> None:
        """Go on with the average that a checkpoint holds."""
        for name, each in load_file(checkpoint / FILE).items():
            self._means[name].copy_(each)
