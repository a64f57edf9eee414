"""Other ways to put the same questions to a model: another picture or none, and drawn answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.answers import AnswerLike, AnswersQuestions, NoAnswer

OWN, BLANK, NOISE, NONE = "own", "blank", "noise", "none"
COLDEST, HOTTEST = 0.01, 10
SIDE = 256  # pixels of a made picture
GREY = (128, 128, 128)
_SEED_BYTES = 8


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        temperature: What the logits are divided by; 0 takes the likeliest token.
        repetition: From 1: another one draws anew, an equal one the same.

    Raises:
        InputError: The temperature is none.
    """

    temperature: float
    repetition: int = 1

    def __post_init__(self) -> None:
        if self.temperature != 0 and not COLDEST <= self.temperature <= HOTTEST:
            raise InputError(
                f"the temperature is {self.temperature}",
                f"Give {COLDEST} to {HOTTEST}, or 0 for the likeliest answer.",
            )


@dataclass(frozen=True)
class Asking:
    """How every question of a run is asked.

    Attributes:
        picture: ``own``; ``blank``, one grey picture for all questions; ``noise``, random pixels, others
            for each picture; or ``none``, the question alone.
        sampling: None for the likeliest answer.
        prompt: Whose wording, of ``prompts.PROMPTS``; None for ours.
    """

    picture: str = OWN
    sampling: Sampling | None = None
    prompt: str | None = None

    def manifest(self) -> dict[str, Any]:
        """What the manifest of a predictions file says of it; nothing of what is usual."""
        found: dict[str, Any] = {} if self.picture == OWN else {"picture": self.picture}
        if self.prompt is not None:
            found["prompt"] = self.prompt
        if self.sampling is not None:
            found |= {
                "temperature": self.sampling.temperature,
                "repetition": self.sampling.repetition,
            }
        return found


USUAL = Asking()


@runtime_checkable
class DrawsAnswers(Protocol):
    """A model whose answers can be drawn."""

    def draw_answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        *,
        temperature: float,
        repetition: int,
    ) -> Sequence[AnswerLike | NoAnswer]:
        """Answer each (index of its image, question), another way in each repetition."""
        ...


@runtime_checkable
class AnswersBlind(Protocol):
    """A model that can be asked without a picture.

    Attributes:
        needs_picture: Whether it cannot, after all.
    """

    needs_picture: bool

    def answer_blind(self, questions: Sequence[str]) -> Sequence[AnswerLike | NoAnswer]:
        """Answer each question."""
        ...


class NeedsPictureError(InputError):
    """The model takes no question without a picture."""


class Asked:
    """A model that is asked another way; to ``predict`` it is a model like any other.

    Args:
        model: Who answers.
        how: In which way.

    Raises:
        NeedsPictureError: It shall answer without a picture, and cannot.
        InputError: Answers shall be drawn, and it cannot.
    """

    def __init__(self, model: AnswersQuestions, how: Asking) -> None:
        self.name, self.identity = model.name, model.identity
        self._model, self._how = model, how
        can = isinstance(model, AnswersBlind) and not model.needs_picture
        if how.picture == NONE and not can:
            raise NeedsPictureError(f"{model.name} takes no question without a picture")
        if how.sampling is not None and not isinstance(model, DrawsAnswers):
            raise InputError(
                f"the answers of {model.name} cannot be drawn", "Leave out --temperature."
            )

    def answer_images(
        self, images: Sequence[Image.Image], questions: Sequence[tuple[int, str]]
    ) -> Sequence[AnswerLike | NoAnswer]:
        """Answer each (index of its own image, question), by the pictures that are shown instead."""
        if self._how.picture == NONE:
            assert isinstance(self._model, AnswersBlind)
            return self._model.answer_blind([question for _, question in questions])
        if self._how.picture == BLANK:
            images = [blank_picture()]
            questions = [(0, question) for _, question in questions]
        elif self._how.picture == NOISE:
            images = [noise_picture(image) for image in images]
        if self._how.sampling is None:
            return self._model.answer_images(images, questions)
        assert isinstance(self._model, DrawsAnswers)
        return self._model.draw_answers(images, questions, **vars(self._how.sampling))


def blank_picture() -> Image.Image:
    """A picture without anything: not even the shape of a question's own one is left."""
    return Image.new("RGB", (SIDE, SIDE), GREY)


def noise_picture(own: Image.Image) -> Image.Image:
    """Random colours, every pixel by itself, the same whenever the question's own picture is."""
    digest = hashlib.sha256(repr(own.size).encode() + own.convert("RGB").tobytes()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:_SEED_BYTES], "big"))
    return Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
