"""A picture in the shape that every encoder takes. No torch in here: worker processes import it."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SAMPLE = (16, 16)


def square(picture: Image.Image, side: int) -> np.ndarray:
    """Resize to a square by bicubic interpolation, so that nothing is cut off.

    Args:
        picture: In any mode that Pillow converts to RGB; one of this size keeps its pixels.
        side: Height and width of the result.

    Returns:
        uint8, (side, side, 3), RGB, writable.
    """
    rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
    if rgb.width * rgb.height > 2 * side * side and _is_grey(rgb):  # smaller ones are done sooner
        grey = rgb.getchannel(0).resize((side, side), Image.Resampling.BICUBIC)
        return np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    return np.array(rgb.resize((side, side), Image.Resampling.BICUBIC))


def _is_grey(rgb: Image.Image) -> bool:
    """Whether all channels are equal: to resize one then gives what to resize all gives, sooner."""
    few = rgb.resize(_SAMPLE, Image.Resampling.NEAREST)  # tells nearly all others at once
    return all(
        each.getchannel(0).tobytes() == each.getchannel(channel).tobytes()
        for each in (few, rgb)
        for channel in (1, 2)
    )
