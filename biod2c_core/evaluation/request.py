"""What to evaluate, and how."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.data.formats import image_root
from biod2c_core.errors import InputError
from biod2c_core.evaluation.judge.judge_run import Judging
from biod2c_core.evaluation.predict.asking import USUAL, Asking
from biod2c_core.evaluation.score.profiles import DEFAULT_PROFILE

PREDICTIONS_NAME = "predictions.jsonl"


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        data: A data set's folder or file.
        split: Which part of it; None for all.
        predictions: The predictions file, read or written; by default inside ``run``.
        run: Folder for the results; None to write none.
        model: Checkpoint; None for the embedded model, or to score an existing file.
        devices: Where the model runs; with several, a process each.
        profile: Name of the scoring convention.
        shuffle_seed: With a number, questions are asked about other questions' images.
        images: Folder of the images; by default the data's own.
        training: What the model may have learned from, for baselines and the contamination check;
            by default the data's own split ``train``, where it has one.
        judging: How a language model rates the answers; None for not at all. Needs ``run``.
        mask_text: Ask again with the text in the pixels masked, and compare. Needs the model.
        asking: How the questions are asked.
        controls: Ask again about other pictures, and compare.
        consistency: Ask again in other words, negated, and for attributes of the images.
        limit: Only so many questions, the first; None for all.
        repeat: How often everything is asked.
    """

    data: Path
    split: str | None = "test"
    predictions: Path | None = None
    run: Path | None = None
    model: str | None = None
    devices: tuple[str, ...] = ("auto",)
    profile: str = DEFAULT_PROFILE
    shuffle_seed: int | None = None
    images: Path | None = None
    training: Path | None = None
    judging: Judging | None = None
    mask_text: bool = False
    asking: Asking = USUAL
    controls: bool = False
    consistency: bool = False
    limit: int | None = None
    repeat: int = 1

    @property
    def image_folder(self) -> Path:
        """Where the images are."""
        return self.images or image_root(self.data)

    @property
    def predictions_file(self) -> Path:
        """Where the predictions stand.

        Raises:
            InputError: Neither ``predictions`` nor ``run`` is given.
        """
        if self.predictions is not None:
            return self.predictions
        if self.run is None:
            raise InputError(
                "there is no place for the predictions",
                "Give --predictions FILE or an output folder -o RUN.",
            )
        return self.run / PREDICTIONS_NAME


Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def silent(_total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A progress that shows nothing."""
    return nullcontext(lambda _: None)
