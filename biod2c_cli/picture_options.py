"""Which picture of a file a command is about: the options for DICOM, NIfTI and multi-page files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from biod2c_cli.options import pair
from biod2c_core.errors import InputError

if TYPE_CHECKING:
    from biod2c_core.inference.image_choice import ImageChoice

ImageFile = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Image file (PNG, DICOM, NIfTI ...); - reads stdin.")
]
Frame = Annotated[
    int | None, typer.Option("--frame", help="Frame of a DICOM or multi-page file, from 0.")
]
Axis = Annotated[
    int,
    typer.Option("--axis", help="NIfTI: slices across 0 left-right, 1 back-front, 2 feet-head."),
]
Slice = Annotated[
    int | None,
    typer.Option("--slice", help="NIfTI: which slice; the middle one if not given."),
]
Window = Annotated[
    str | None,
    typer.Option("--window", metavar="CENTRE,WIDTH", help="DICOM and NIfTI: grey values shown."),
]


def choose_image(
    image: str, frame: int | None, axis: int, slice_: int | None, window: str | None
) -> ImageChoice:
    """The picture that the options name.

    Raises:
        InputError: They contradict each other, or the window is not two numbers.
    """
    from biod2c_core.inference.image_choice import ImageChoice

    if frame is not None and slice_ is not None:
        raise InputError("both --frame and --slice are given", "Give one of them.")
    return ImageChoice(image, slice_ if frame is None else frame, axis, pair(window, "--window"))
