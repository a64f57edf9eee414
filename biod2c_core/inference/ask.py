"""Questions about one image file, answered with one encoding of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from biod2c_core.data.images import load_image
from biod2c_core.errors import InputError
from biod2c_core.inference.questions import Question, Reply

if TYPE_CHECKING:
    from biod2c_core.inference.attention.explain import AttentionMap
    from biod2c_core.inference.session import Asker

STDIN = "-"


@dataclass(frozen=True)
class ImageChoice:
    """An image file, and which picture in it.

    Attributes:
        path: The file, ``-`` for stdin, or the folder of a DICOM series.
        frame: Frame of a DICOM or multi-page file; volume of a NIfTI series over time.
        axis: NIfTI only: slices across 0 left-right, 1 back-front, 2 feet-head.
        slice_index: Slice of a NIfTI volume or DICOM series.
        window: DICOM and NIfTI only: centre and width.
    """

    path: str
    frame: int | None = None
    axis: int | None = None
    slice_index: int | None = None
    window: tuple[float, float] | None = None

    def load(self) -> Image.Image:
        """Decode it.

        Raises:
            ImageError: The image is missing or unusable, or an option means nothing for it.
        """
        source = sys.stdin.buffer if self.path == STDIN else self.path
        return load_image(
            source,
            frame=self.frame,
            axis=self.axis,
            slice_index=self.slice_index,
            window=self.window,
        )


@dataclass(frozen=True)
class AskOptions:
    """How to answer.

    Attributes:
        n_best: How many answers each reply lists.
        min_confidence: Below it, no answer is given.
        attention: A picture of the attention maps to write.
    """

    n_best: int = 1
    min_confidence: float = 0.0
    attention: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n_best <= 20:
            raise InputError(f"--n-best {self.n_best} is out of range", "Use 1 to 20.")
        if not 0 <= self.min_confidence <= 1:
            raise InputError(
                f"--min-confidence {self.min_confidence} is out of range", "Use 0 to 1."
            )
        if self.attention is not None:
            from biod2c_core.inference.attention.export import check_picture_path

            check_picture_path(self.attention)


def open_image(image: ImageChoice, checkpoint: str | None = None, device: str = "auto") -> Asker:
    """Load an image and a model to ask about it.

    Raises:
        ImageError: The image is missing or unusable.
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The device is absent.
    """
    picture = image.load()

    from biod2c_core.inference.session import Asker  # bad input fails before torch is loaded

    return Asker.load(picture, checkpoint, device)


def ask(
    image: ImageChoice,
    questions: Sequence[Question],
    options: AskOptions | None = None,
    checkpoint: str | None = None,
    device: str = "auto",
) -> Iterator[Reply]:
    """Answer questions about an image file, which is encoded once.

    Args:
        image: The image file.
        questions: From :func:`biod2c_core.inference.questions.gather_questions`.
        options: How to answer.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Yields:
        A reply a question, in order.

    Raises:
        ImageError: The image is missing or unusable.
        InputError: A question is too long for the model.
        CheckpointError: The checkpoint is missing or damaged.
    """
    options = options or AskOptions()
    asker = open_image(image, checkpoint, device)
    maps: list[AttentionMap] = []
    for reply, answer in asker.ask(questions, options.n_best, options.min_confidence):
        if options.attention:
            maps.append(asker.explain(questions[len(maps)], answer))
        yield reply
    if options.attention:
        from biod2c_core.inference.attention.export import draw_maps, save_picture

        save_picture(options.attention, draw_maps(asker.image, maps))
