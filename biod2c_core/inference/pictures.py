"""Many pictures: found in folders, and asked about one group after another, each encoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from PIL import Image

from biod2c_core.data.images import IMAGE_SUFFIXES, MAX_BYTES, check_image_file
from biod2c_core.data.images.dicom import is_dicom
from biod2c_core.data.images.series import choose_slice
from biod2c_core.errors import BioD2CError, ImageError, InputError
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.questions import AskOptions, Question, Reply

if TYPE_CHECKING:  # loads torch, which bad input never waits for
    from torch import Tensor

    from biod2c_core.inference.vqa_model import VQAModel

_DICOM_HEAD = 132  # bytes that tell a DICOM file


class Picture(Protocol):
    """What can be asked about."""

    def load(self) -> Image.Image:
        """Decode it to RGB."""


P = TypeVar("P", bound=Picture)
Open = Callable[[P, Question], bool]  # whether this is still to be asked about a picture


def find_pictures(choices: Sequence[ImageChoice], volumes: bool = False) -> list[ImageChoice]:
    """Each picture once, in the order given; a folder stands for all pictures below it.

    Args:
        choices: Files and folders.
        volumes: Whether each picture is a volume, so that a folder of DICOM files alone is a series, or
            what keeps it from being one is said when it is opened.

    DICOM files without a suffix, as scanners write them, count as pictures. A folder with the files of
    one DICOM series and nothing else is one picture, its middle slice; so is any with a slice chosen.

    Raises:
        ImageError: A folder holds no picture.
    """
    found: dict[str, ImageChoice] = {}
    for choice in choices:
        # Path.is_dir raises for a name that is too long
        is_folder = os.path.isdir(choice.path)  # noqa: PTH112
        if choice.slice_index is not None or not is_folder:
            found.setdefault(choice.path, choice)
            continue
        names = list(_below(choice.path))
        if not names:
            raise ImageError(
                f"{choice.path} is a folder, expected an image file or a folder with some",
                f"Endings that are looked for: {' '.join(IMAGE_SUFFIXES)}.",
            )
        if _is_series(choice.path, names, volumes):
            found.setdefault(choice.path, choice)
            continue
        for name in names:
            found.setdefault(name, replace(choice, path=name))
    return list(found.values())


def _below(folder: str) -> Iterator[str]:
    for place, subfolders, names in os.walk(folder):
        subfolders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if name.lower().endswith(IMAGE_SUFFIXES) or ("." not in name and _is_dicom(path)):
                yield str(path)


def _is_series(folder: str, names: Sequence[str], volumes: bool) -> bool:
    if len(names) < 2 or not all(
        Path(name).parent == Path(folder) and _is_dicom(Path(name)) for name in names
    ):
        return False
    if volumes:
        return True
    try:
        choose_slice(Path(folder), None, None, MAX_BYTES)
    except InputError:  # several series, or single pictures
        return False
    return True


def _is_dicom(path: Path) -> bool:
    try:
        with check_image_file(path).open("rb") as file:
            return is_dicom(file.read(_DICOM_HEAD))
    except (ImageError, OSError):
        return False


def ask_pictures(
    model: VQAModel,
    pictures: Sequence[P],
    questions: Sequence[Question],
    options: AskOptions,
    is_open: Open[P] = lambda picture, question: True,
) -> Iterator[tuple[P, Reply | BioD2CError]]:
    """Ask each question about each picture; memory holds a group of pictures, as the model sees them.

    Args:
        model: The loaded model.
        pictures: From :func:`find_pictures`, or slices of a volume.
        questions: At least one.
        options: How to answer.
        is_open: Says of a picture and a question whether it is to be asked; a picture about which nothing
            is open is not read.

    Yields:
        A picture and a reply, pictures and questions in order; or the error that keeps a picture from
        being read, in the place of its replies.

    Raises:
        InputError: A question is too long for the model.
    """
    from biod2c_core.inference.vqa_model import BATCH

    size = max(1, BATCH // len(questions))
    for start in range(0, len(pictures), size):
        yield from _ask_group(model, pictures[start : start + size], questions, options, is_open)


def _ask_group(
    model: VQAModel,
    group: Sequence[P],
    questions: Sequence[Question],
    options: AskOptions,
    is_open: Open[P],
) -> Iterator[tuple[P, Reply | BioD2CError]]:
    pixels: list[Tensor] = []
    places: list[int] = []  # in the group, of those that could be read
    asked: list[tuple[int, Question]] = []
    found: list[list[Reply | BioD2CError]] = [[] for _ in group]
    for place, picture in enumerate(group):
        still = [question for question in questions if is_open(picture, question)]
        if not still:
            continue
        try:
            # as small as the model sees it: a group of originals may not fit into memory
            pixels.append(model.answerer.processor.pixels(picture.load()))
        except ImageError as error:
            found[place].append(error)
            continue
        asked += [(len(places), question) for question in still]
        places.append(place)
    if asked:
        answered = model.replies(model.encode_pixels(pixels), asked, options)
        for (row, _), (reply, _) in zip(asked, answered, strict=True):
            found[places[row]].append(reply)
    for picture, replies in zip(group, found, strict=True):
        yield from ((picture, reply) for reply in replies)
