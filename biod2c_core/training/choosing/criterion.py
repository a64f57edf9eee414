"""What a run is told about choosing its model, and the checkpoint that it has chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from biod2c_core.config import StageSettings
from biod2c_core.data.records import Record
from biod2c_core.errors import CheckpointError, ConfigError, InputError
from biod2c_core.model.generation import Answerer
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.checkpointing import find_damage
from biod2c_core.training.hardware.engines import Engine


class Criterion(Protocol):
    """What checkpoints are compared by; evaluation gives one."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def column(self) -> str:
        """What the log calls it, behind ``eval_``."""

    @property
    def needs_answers(self) -> bool:
        """Whether the validation questions have to be answered for it."""

    @property
    def more_is_better(self) -> bool:
        """Whether the best value is the largest."""

    def check(self, records: Sequence[Record]) -> None:
        """Raise an InputError if it says nothing of these questions."""

    def begin(self, model: Answerer, file: Path) -> None:
        """Get a file ready for the answers of a model, in the first process."""

    def answer(
        self,
        model: Answerer,
        records: Sequence[Record],
        image_root: Path,
        file: Path,
        shard: tuple[int, int],
        advance: Callable[[int], None],
    ) -> None:
        """Have the questions answered, or the share of one of several processes."""

    def score(self, records: Sequence[Record], file: Path) -> dict[str, float]:
        """Numbers by name, in the first process after all have answered."""


@dataclass(frozen=True)
class Choice:
    """How the model of a run is chosen.

    Attributes:
        processor: Of the model.
        criterion: What checkpoints are compared by; None exports the last weights.
        every: Steps between validations; 0 validates at the end of each epoch.
        patience: Validations without a better one that end the run; 0 for no end.
        decay: Of the average of the trained weights; 0 for none.
        image_root: Folder of the validation images; None without validation.
        answers: Folder for the answers to the validation questions.
    """

    processor: BioD2CProcessor
    criterion: Criterion | None
    every: int
    patience: int
    decay: float
    image_root: Path | None
    answers: Path


def check_choice(
    settings: StageSettings, criterion: Criterion | None, validation: Path | None, engine: Engine
) -> None:
    """Refuse to choose where nothing can be chosen.

    Args:
        settings: Of the stage.
        criterion: What checkpoints are compared by, if they are.
        validation: Records to validate on, if any.
        engine: How the processes share the work.

    Raises:
        InputError: There are no validation records.
        ConfigError: A setting has no effect, or the engine has no process that holds all weights.
    """
    if criterion is not None and validation is None:
        raise InputError(
            f"a checkpoint is to be selected by {criterion.name}, but there are no validation records",
            "Add --validation FILE, or leave out --select.",
        )
    if settings.select_patience and criterion is None:
        raise ConfigError(
            f"select_patience is {settings.select_patience}, but nothing says what is better",
            "Add --select METRIC, or set it to 0.",
        )
    if engine.zero_stage < 3:
        return
    if criterion is not None and criterion.needs_answers:
        raise ConfigError(
            f"{criterion.name} needs answers, and no process of the engine {engine.name!r} holds all "
            "weights",
            "Use --select loss, or share less: --zero 2.",
        )
    if settings.ema_decay:
        raise ConfigError(
            f"ema_decay is {settings.ema_decay}, and no process of the engine {engine.name!r} holds "
            "all weights",
            "Set it to 0, or share less: --zero 2.",
        )


def chosen_checkpoint(checkpoints: Path, step: int) -> Path:
    """The folder of the best checkpoint.

    Args:
        checkpoints: The run's ``checkpoints``.
        step: Its step.

    Raises:
        CheckpointError: It is damaged or gone.
    """
    path = checkpoints / f"{PREFIX_CHECKPOINT_DIR}-{step}"
    if damage := find_damage(path):
        raise CheckpointError(
            f"{path}, the best checkpoint of the run, cannot be used: {damage}",
            "Put it back; or remove it and all later ones, and go on with --resume.",
        )
    return path
