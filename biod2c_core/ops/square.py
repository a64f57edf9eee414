"""A picture in the shape that every encoder takes. No torch in here: worker processes import it."""

from __future__ import annotations

import numpy as np
from PIL import Image


def square(picture: Image.Image, side: int) -> np.ndarray:
    """Resize to a square by bicubic interpolation, so that nothing is cut off.

    Args:
        picture: In any mode that Pillow converts to RGB; one of this size keeps its pixels.
        side: Height and width of the result.

    Returns:
        uint8, (side, side, 3), RGB, writable.
    """
    rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
    return np.array(rgb.resize((side, side), Image.Resampling.BICUBIC))
