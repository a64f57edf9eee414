"""Which picture is asked about: a file, a frame of one, or a picture that is already in memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from biod2c_core.data.images import load_image, to_upright_rgb
from biod2c_core.errors import ImageError

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

    def __str__(self) -> str:
        chosen = [("frame", self.frame), ("axis", self.axis), ("slice", self.slice_index)]
        named = ", ".join(f"{name} {value}" for name, value in chosen if value is not None)
        return f"{self.path} ({named})" if named else self.path

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


def is_there(name: str | Path) -> bool:
    """Whether a text names a file or folder that exists; questions do not."""
    try:
        return bool(str(name).strip()) and Path(name).exists()
    except (OSError, ValueError):  # longer than a name may be, or with a NUL
        return False


AnyImage = str | Path | Image.Image | ImageChoice


def open_picture(image: AnyImage) -> Image.Image:
    """Make an RGB picture, upright, of whatever names or is an image.

    Args:
        image: A path, a PIL image of any mode, or an :class:`ImageChoice`.

    Raises:
        ImageError: It is missing or unusable, or something else was given.
    """
    if isinstance(image, ImageChoice):
        return image.load()
    if isinstance(image, Image.Image):
        return to_upright_rgb(image)
    if isinstance(image, str | Path):
        return load_image(image)
    raise ImageError(
        f"{type(image).__name__} given, expected an image", "Give a path or a PIL image."
    )
