"""Asking a model again, another way, into a file beside its first answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.asking import Asking
from biod2c_core.evaluation.predict.predictions_file import Prediction, read_manifest


class AskAgain(Protocol):
    """Asks the model of a run again; what a file holds already is not asked again."""

    def __call__(
        self,
        records: Sequence[Record] | None,
        path: Path,
        *,
        images: Path | None = None,
        shuffle_seed: int | None = None,
        asking: Asking | None = None,
    ) -> Mapping[str, Prediction]:
        """Ask, and read the answers.

        Args:
            records: The questions; None for those of the run.
            path: Where the answers go.
            images: Folder of the images; None for that of the run.
            shuffle_seed: With a number, each question is asked about another question's image.
            asking: How to ask; None for as before.

        Returns:
            Id to prediction, one for each question.

        Raises:
            InputError: It is another model that answered before.
        """
        ...


def beside(path: Path, name: str) -> Path:
    """The predictions file of another pass: ``predictions.NAME.jsonl``."""
    return path.with_name(f"{path.stem}.{name}.jsonl")


def check_same_model(first: Path, second: Path, what: str) -> None:
    """Check that two predictions files are of one model.

    Args:
        first: A file of ours.
        second: Another.
        what: Which answers the second holds, for the message.

    Raises:
        InputError: They are not.
    """
    before, after = read_manifest(first) or {}, read_manifest(second) or {}
    if before.get("identity") != after.get("identity"):
        raise InputError(
            f"{first} holds the answers of {before.get('model')!r}, those {what} are of "
            f"{after.get('model')!r}",
            "Predict both anew, in another folder.",
        )
