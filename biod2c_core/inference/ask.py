"""One question about one image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.data.images import load_image
from biod2c_core.errors import InputError


@dataclass(frozen=True)
class Reply:
    """What ``biod2c ask`` prints.

    Attributes:
        answer: The model's answer.
        confidence: How sure it is, in [0, 1]; see ``biod2c_core.model.answering.Answer``.
        model: The name of the checkpoint.
        seconds: Time to read the image and answer, the loading of the model not included.
    """

    answer: str
    confidence: float
    model: str
    seconds: float


def ask(
    image: Path | str, question: str, checkpoint: str | None = None, device: str = "auto"
) -> Reply:
    """Answer a question about an image file.

    Args:
        image: The image file.
        question: The question.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        ImageError: The image is missing or unusable.
        InputError: The question is empty, no text, or too long for the model.
        CheckpointError: The checkpoint is missing or damaged.
    """
    if not question.strip():
        raise InputError("the question is empty", "Ask something about the image.")
    try:
        question.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            "the question is not UTF-8 text", "Check the terminal's encoding."
        ) from None
    picture = load_image(image)

    from biod2c_core.model.answering import Answerer  # bad input fails before torch is loaded

    answerer = Answerer.load(checkpoint, device)
    started = time.monotonic()
    (answer,) = answerer.answer([picture], [question])
    seconds = round(time.monotonic() - started, 3)
    return Reply(answer.text, answer.confidence, answerer.name, seconds)
