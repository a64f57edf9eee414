"""TensorBoard and Weights & Biases beside the run's own log, both in the run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback, WandbCallback

from biod2c_core.errors import InputError, MissingDependencyError


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed.

    Raises:
        MissingDependencyError: One is missing.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingDependencyError(name, "track")


def start_trackers(names: Sequence[str], output: Path) -> list[TrainerCallback]:
    """Callbacks that pass each log line on; for the first process of a run.

    Args:
        names: ``tensorboard`` and ``wandb``.
        output: The run folder.

    Raises:
        InputError: Weights & Biases refuses to start.
    """
    callbacks: list[TrainerCallback] = []
    if "tensorboard" in names:
        from torch.utils.tensorboard import SummaryWriter

        callbacks.append(TensorBoardCallback(SummaryWriter(str(output / "tensorboard"))))
    if "wandb" in names:
        import wandb

        project = os.environ.get("WANDB_PROJECT", "biod2c")
        try:
            wandb.init(project=project, name=output.resolve().name, dir=str(output), reinit=True)
        except wandb.Error as error:
            raise InputError(
                f"Weights & Biases does not start ({' '.join(str(error).split())[:200]})",
                "Run 'wandb login', or set WANDB_MODE=offline.",
            ) from error
        callbacks.append(WandbCallback())
    return callbacks
