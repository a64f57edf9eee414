"""The pictures of a volume, series or multi-frame file, one after another, one in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

from biod2c_core.data.images.dicom import open_dicom
from biod2c_core.data.images.files import MAX_BYTES, TimedFile, open_image
from biod2c_core.data.images.load import Selection, load_image
from biod2c_core.data.images.nifti import count_slices, decode_nifti, unpack
from biod2c_core.data.images.pixels import MAX_PIXELS
from biod2c_core.data.images.recognize import DICOM, NIFTI, PEEK_BYTES, PILLOW_FORMATS, recognize
from biod2c_core.data.images.series import find_series
from biod2c_core.errors import ImageError


@dataclass(frozen=True)
class Stack:
    """An open volume.

    Attributes:
        count: How many pictures it holds.
        load: Decodes the one of an index from 0; RGB, upright.
        remarks: Lines on what is odd about it.
    """

    count: int
    load: Callable[[int], Image.Image]
    remarks: tuple[str, ...] = ()


def count_pictures(file: BinaryIO, name: str, axis: int) -> tuple[str, int]:
    """What kind of file it is, and how many pictures it holds.

    Args:
        file: Open binary file.
        name: How messages name it.
        axis: Across which slices of a NIfTI volume are counted.

    Returns:
        The kind, as :func:`recognize` has it, and frames or slices.

    Raises:
        ImageError: It is damaged, or not read.
    """
    file.seek(0)
    kind = recognize(file.read(PEEK_BYTES), name)
    file.seek(0)
    if kind == DICOM:
        return kind, open_dicom(file, name).frames
    if kind == NIFTI:
        return kind, count_slices(file, name, axis)
    try:
        with Image.open(file, formats=PILLOW_FORMATS) as picture:
            return kind, getattr(picture, "n_frames", 1)
    except (Exception, MemoryError):  # decoders raise nearly anything on damaged bytes
        return kind, 1  # load_image says what is wrong


@contextmanager
def open_stack(path: str, chosen: Selection) -> Iterator[Stack]:
    """Open the slices of a NIfTI volume or DICOM series, or the frames of a file of several.

    A series' headers are read once; a gzip file is unpacked once, to a nameless temporary file.

    Args:
        path: A file, or the folder of one DICOM series.
        chosen: Volume (``frame``) and ``axis`` of slices, and their ``window``.

    Raises:
        ImageError: It is no volume, or damaged, or an option means nothing for it.
        MissingDependencyError: DICOM or NIfTI without the extra ``medical``.
    """
    if Path(path).is_dir():
        chosen.refuse(path, "a folder with a DICOM series", "axis")
        series = find_series(Path(path), chosen.frame, MAX_BYTES)

        def load(index: int) -> Image.Image:
            return load_image(series.files[index], window=chosen.window)

        yield Stack(len(series.files), load, series.remarks)
        return
    with ExitStack() as opened:
        file = opened.enter_context(open_image(path, path, None, MAX_BYTES))
        timed = cast(BinaryIO, TimedFile(file, path))
        axis = 2 if chosen.axis is None else chosen.axis
        kind, count = count_pictures(timed, path, axis)
        if kind == NIFTI:
            file.seek(0)
            plain = opened.enter_context(unpack(timed, path))
            yield Stack(count, partial(_nifti_slice, plain, path, chosen))
            return
        chosen.refuse(path, "a file whose slices are its frames", "frame", "axis")
        if count == 1:
            load_image(path, window=chosen.window)  # what is damaged is said to be
            raise ImageError(
                f"{path} is a single picture and has no slices",
                "Ask about it as one picture, without slices.",
            )
        yield Stack(count, lambda index: load_image(path, frame=index, window=chosen.window))


def _nifti_slice(file: BinaryIO, name: str, chosen: Selection, index: int) -> Image.Image:
    file.seek(0)
    timed = TimedFile(file, name)
    with np.errstate(all="ignore"):  # damaged headers hold absurd scales
        values = decode_nifti(
            timed, name, MAX_PIXELS, chosen.axis, index, chosen.frame, chosen.window
        )
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")
