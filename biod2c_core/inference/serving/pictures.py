"""``POST /picture``: one frame or slice of a file that browsers do not read, as PNG for the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from biod2c_core.data.images import load_image
from biod2c_core.data.images.recognize import NIFTI, PEEK_BYTES, recognize
from biod2c_core.data.images.stack import count_pictures
from biod2c_core.errors import ImageError, InputError
from biod2c_core.inference.serving.requests import Limits, bad, data_url_bytes, json_object

MAX_SIDE = 1024  # pixels; the page shows, and sends, no more
_MAX_NAME = 200  # characters


@dataclass(frozen=True)
class PictureRequest:
    """Which picture of a file.

    Attributes:
        data: The file.
        name: How messages call it.
        frame: Frame of a DICOM or multi-page file, or slice of a NIfTI volume; None for its default.
        axis: NIfTI only: 0 left-right, 1 back-front, 2 feet-head.
        window: DICOM and NIfTI only: centre and width.
    """

    data: bytes
    name: str
    frame: int | None
    axis: int
    window: tuple[float, float] | None


def parse_picture(body: bytes) -> PictureRequest:
    """Read the body of ``/picture``.

    Args:
        body: JSON with ``file``, a ``data:`` URL, and maybe ``name``, ``frame``, ``axis``, ``window``.

    Raises:
        RefusedError: It is not such a request.
    """
    value = json_object(body)
    frame, axis, name = value.get("frame"), value.get("axis", 2), value.get("name", "the file")
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int)):
        raise bad("frame must be a whole number")
    if isinstance(axis, bool) or axis not in (0, 1, 2):
        raise bad("axis must be 0, 1 or 2")
    if not isinstance(name, str):
        raise bad("name must be a text")
    return PictureRequest(
        data_url_bytes(value.get("file")), name[:_MAX_NAME], frame, axis, _window(value)
    )


def _window(value: dict[str, Any]) -> tuple[float, float] | None:
    window = value.get("window")
    if window is None:
        return None
    if (
        not isinstance(window, list)
        or len(window) != 2
        or not all(isinstance(each, int | float) for each in window)
    ):
        raise bad("window must be [centre, width]")
    return float(window[0]), float(window[1])


def make_picture(request: PictureRequest, limits: Limits) -> dict[str, Any]:
    """Decode the picture, within the limits.

    Returns:
        ``image_url``, a PNG; ``kind`` (``dicom``, ``nifti`` or ``picture``); ``frames``, how many
        there are, and ``frame``, which one this is; ``axis``.

    Raises:
        RefusedError: It is not an image, damaged, too large, or has no such picture.
    """
    file = io.BytesIO(request.data)
    file.name = request.name  # what error messages call it
    try:
        volume = recognize(request.data[:PEEK_BYTES], request.name) == NIFTI
        picture = load_image(
            file,
            max_pixels=limits.pixels,
            max_bytes=limits.body_bytes,
            frame=None if volume else request.frame,
            axis=request.axis if volume else None,
            slice_index=request.frame if volume else None,
            window=request.window,
        )
        kind, frames = count_pictures(io.BytesIO(request.data), request.name, request.axis)
    except ImageError as error:
        raise bad(str(error), "invalid_image") from None
    except InputError as error:
        raise bad(error.problem, "invalid_image") from None
    default = frames // 2 if kind == NIFTI else 0
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {
        "image_url": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "kind": kind.lower(),
        "frames": max(frames, (request.frame or 0) + 1),  # which has been read
        "frame": default if request.frame is None else request.frame,
        "axis": request.axis,
    }
