"""Questions about one image file, answered with one encoding of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biod2c_core.collector import imports_for_good
from biod2c_core.inference.attention.export import arrange_maps, check_picture_path, save_sheet
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.questions import AskOptions, Question, Reply

if TYPE_CHECKING:  # loads torch, which bad input never waits for
    from biod2c_core.inference.session import ImageSession


def open_session(
    image: ImageChoice, checkpoint: str | None = None, device: str = "auto"
) -> ImageSession:
    """Load an image and a model to ask about it.

    Args:
        image: The image file.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        ImageError: The image is missing or unusable.
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The device is absent.
    """
    picture = image.load()
    with imports_for_good():  # bad input fails before torch is loaded
        from biod2c_core.inference.session import ImageSession
        from biod2c_core.inference.vqa_model import VQAModel

    return ImageSession.open(VQAModel.load(checkpoint, device), picture)


def ask(
    image: ImageChoice,
    questions: Sequence[Question],
    options: AskOptions | None = None,
    checkpoint: str | None = None,
    device: str = "auto",
    attention: Path | None = None,
) -> Iterator[Reply]:
    """Answer questions about an image file, which is encoded once.

    Args:
        image: The image file.
        questions: From :func:`biod2c_core.inference.questions.gather_questions`.
        options: How to answer.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...
        attention: A picture of the attention maps to write.

    Yields:
        A reply a question, in order.

    Raises:
        ImageError: The image is missing or unusable.
        InputError: A question is too long for the model, or ``attention`` names no picture.
        CheckpointError: The checkpoint is missing or damaged.
    """
    if attention:
        check_picture_path(attention)
    session = open_session(image, checkpoint, device)
    maps = []
    for question, (reply, answer) in zip(
        questions, session.ask(questions, options or AskOptions()), strict=True
    ):
        if attention:
            maps.append(session.explain(question, answer))
        yield reply
    if attention:
        save_sheet(attention, arrange_maps(session.image, maps))
