"""Which picture of a file a command is about: the options for DICOM, NIfTI and multi-page files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from biod2c_cli.options import pair
from biod2c_core.errors import InputError

if TYPE_CHECKING:
    from biod2c_core.inference.image_choice import ImageChoice
    from biod2c_core.inference.volumes.slices import Slices

ImageFile = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="Image file (PNG, DICOM, NIfTI ...) or folder of a DICOM series; - reads stdin.",
    ),
]
Frame = Annotated[
    int | None,
    typer.Option("--frame", help="Frame of a DICOM or multi-page file, volume of a 4-D NIfTI."),
]
Axis = Annotated[
    int | None,
    typer.Option("--axis", help="NIfTI: slices across 0 left-right, 1 back-front, 2 feet-head."),
]
Slice = Annotated[
    int | None,
    typer.Option("--slice", help="NIfTI, DICOM series: which slice; else the middle one."),
]
SliceRange = Annotated[
    str | None,
    typer.Option(
        "--slices",
        metavar="SLICES",
        help="Many slices of a NIfTI or DICOM series, or frames of a file, and the whole: 12, "
        "10:60:2, 3,7,20:30, or : for all, as Python counts (from 0, the end left out).",
    ),
]
Window = Annotated[
    str | None,
    typer.Option("--window", metavar="CENTRE,WIDTH", help="DICOM and NIfTI: grey values shown."),
]


def choose_image(
    image: str, frame: int | None, axis: int | None, slice_: int | None, window: str | None
) -> ImageChoice:
    """The picture that the options name.

    Raises:
        InputError: The window is not two numbers.
    """
    from biod2c_core.inference.image_choice import ImageChoice

    return ImageChoice(image, frame, axis, slice_, pair(window, "--window"))


def choose_slices(slices: str | None, slice_: int | None) -> Slices | None:
    """The slices that ``--slices`` names; None without it.

    Raises:
        InputError: It is not a choice of slices, or ``--slice`` is given too.
    """
    from biod2c_core.inference.volumes.slices import Slices

    if slices is None:
        return None
    if slice_ is not None:
        raise InputError("both --slice and --slices are given", "Give one of them.")
    return Slices.parse(slices)
