"""What can be evaluated: whatever answers questions about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL.Image import Image


class AnswerLike(Protocol):
    """What a model says to one question."""

    @property
    def text(self) -> str:
        """The answer."""
        ...

    @property
    def confidence(self) -> float | None:
        """In [0, 1], or None where the model gives none."""
        ...


@dataclass(frozen=True)
class NoAnswer:
    """Why a question has no answer yet; it is asked again by the next run."""

    reason: str


class AnswersQuestions(Protocol):
    """A model that can be evaluated.

    Attributes:
        name: For people.
        identity: Equal only for equal weights and settings, so that a resume cannot mix models.
    """

    name: str
    identity: str

    def answer_images(
        self, images: Sequence[Image], questions: Sequence[tuple[int, str]]
    ) -> Sequence[AnswerLike | NoAnswer]:
        """Answer each (index of its image, question); each image is encoded once."""
        ...


@runtime_checkable
class SeesSquares(Protocol):
    """A model that resizes every image to one square, so that this can be done ahead of it.

    Attributes:
        picture_side: Height and width of that square, pixels.
        on_gpu: Whether the cores of the machine have nothing else to do.
    """

    picture_side: int
    on_gpu: bool
