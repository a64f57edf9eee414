"""Any image file to an RGB picture, or to one line that says what is wrong with it.

What becomes of each kind of pixel is the table in ``docs/data-formats.md``; :mod:`.pictures`,
:mod:`.tiff`, :mod:`.dicom` and :mod:`.nifti` do it. The format is detected from the content. Limits are
checked on the header before a pixel is allocated, and :mod:`.bombs` looks for what a header hides.
Only formats whose decoders are plain functions of the bytes are tried: EPS, for example, would
start another program.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

from biod2c_core.data.images.dicom import decode_dicom
from biod2c_core.data.images.files import MAX_BYTES, TimedFile, describe_source, open_image
from biod2c_core.data.images.nifti import decode_nifti
from biod2c_core.data.images.pictures import decode_picture
from biod2c_core.data.images.pixels import MAX_PIXELS, Window, check_window
from biod2c_core.data.images.recognize import NIFTI, PEEK_BYTES, PICTURE, recognize
from biod2c_core.data.images.series import choose_slice
from biod2c_core.errors import ImageError


@dataclass(frozen=True)
class Selection:
    """Which picture of a file, and which grey values; what is not given is the file's own.

    Attributes:
        frame: Frame of a DICOM, multi-page or animated file; volume of a series over time.
        axis: NIfTI: slices across 0 left-right, 1 back-front or 2 feet-head.
        slice_index: Slice of a NIfTI volume or of a folder with a DICOM series.
        window: DICOM and NIfTI in grey: centre and width.
    """

    frame: int | None = None
    axis: int | None = None
    slice_index: int | None = None
    window: Window | None = None

    def refuse(self, name: str, kind: str, *options: str) -> None:
        """Refuse options that mean nothing for a kind of file: nothing asked for is ignored.

        Raises:
            ImageError: One of ``options`` is given.
        """
        for option in options:
            if getattr(self, option) is not None:
                word = option.removesuffix("_index")
                raise ImageError(f"{name} is {kind} and has no {word}", f"Leave out --{word}.")


def load_image(
    source: str | Path | bytes | BinaryIO,
    *,
    root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    frame: int | None = None,
    axis: int | None = None,
    slice_index: int | None = None,
    window: Window | None = None,
) -> Image.Image:
    """Decode one image completely.

    Args:
        source: A path, the bytes of a file, or an open binary file. Without ``root``, a folder
            with the files of one DICOM series too.
        root: Folder that a path is relative to and must not leave; see :func:`resolve_image`.
        max_pixels: Refuse a header that announces more pixels (width times height) than this.
        max_bytes: Refuse a longer file.
        frame: Which frame of an animation, multi-page or DICOM file, and which volume of a series
            over time, from 0; by default the first.
        axis: NIfTI only: slices across 0 left-right, 1 back-front or 2 feet-head (the default).
        slice_index: Which slice of a NIfTI volume or DICOM series, from 0 from the patient's left,
            back or feet; by default the middle one.
        window: DICOM and NIfTI in grey only: centre and width, instead of the file's own.

    Returns:
        A picture in mode ``RGB``, upright, detached from the file and without its metadata.

    Raises:
        ImageError: The image is missing, no image, damaged, truncated or over a limit, or an
            option means nothing for it.
        MissingDependencyError: DICOM or NIfTI without the extra ``medical``.
    """
    name = describe_source(source)
    chosen = Selection(frame, axis, slice_index, window)
    if window is not None:
        check_window(window, name)
    if root is None and isinstance(source, str | Path) and _is_folder(source):
        chosen.refuse(name, "a folder with a DICOM series", "axis")
        source = choose_slice(Path(source), slice_index, frame, max_bytes)
        name, chosen = str(source), Selection(window=window)
    with open_image(source, name, root, max_bytes) as file:
        kind = recognize(file.read(PEEK_BYTES), name)
        file.seek(0)
        timed = cast(BinaryIO, TimedFile(file, name))
        if kind == PICTURE:
            chosen.refuse(name, "an ordinary picture", "axis", "slice_index", "window")
            return decode_picture(timed, name, max_pixels, chosen.frame or 0)
        with np.errstate(all="ignore"):  # damaged headers hold absurd scales
            if kind == NIFTI:
                values = decode_nifti(
                    timed, name, max_pixels, axis, slice_index, chosen.frame, window
                )
            else:
                chosen.refuse(name, "a DICOM file", "axis", "slice_index")
                values = decode_dicom(timed, name, max_pixels, chosen.frame, window)
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):
        return False


def is_volume(data: bytes) -> bool:
    """Whether the bytes of a file are a NIfTI volume, plain or gzip: many pictures, not one."""
    try:
        return recognize(data[:PEEK_BYTES], "") == NIFTI
    except ImageError:
        return False
