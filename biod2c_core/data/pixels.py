"""Steps that every kind of image shares: limits, frames, and wide values made visible."""

from __future__ import annotations

import numpy as np

from biod2c_core.errors import ImageError

MAX_PIXELS = 64_000_000
Window = tuple[float, float]


def check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Refuse a picture without pixels or with too many.

    Raises:
        ImageError: Width times height is 0 or over ``max_pixels``.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width} x {height})", "Export it again.")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width:,} x {height:,} pixels, over the limit of {max_pixels:,}",
            "Scale it down, or raise the limit (max_pixels).",
        )


def choose_frame(frame: int, frames: int, name: str) -> int:
    """A frame's index, if the file has it.

    Raises:
        ImageError: It has not.
    """
    if not 0 <= frame < frames:
        raise ImageError(f"{name} has frames 0 to {frames - 1}, not {frame}", "Choose one of them.")
    return frame


def scale_to_bytes(values: np.ndarray) -> np.ndarray:
    """Scale the finite range of an array to 0..255.

    Args:
        values: Any real dtype and shape.

    Returns:
        uint8 of the same shape. Not-a-number becomes 0, infinities the nearer end, and a constant
        array is all 0.
    """
    finite = np.isfinite(values)
    usable = values[finite]
    if usable.size == 0 or usable.max() <= usable.min():
        return np.zeros(values.shape, np.uint8)
    low, high = float(usable.min()), float(usable.max())
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.subtract(values, low, dtype=np.float64)
        scaled *= 255.0 / (high - low)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def apply_window(values: np.ndarray, window: Window, function: str = "LINEAR") -> np.ndarray:
    """The window of PS3.3, C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: Rescaled values of any real dtype.
        window: Centre c and width w.
        function: ``LINEAR``: (x - (c - 0.5)) / (w - 1) + 0.5; ``LINEAR_EXACT``: (x - c) / w + 0.5;
            ``SIGMOID``: 1 / (1 + exp(-4 (x - c) / w)). Clipped to 0..1, then 0..255.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: The width is under 1 (LINEAR) or not positive.
    """
    centre, width = window
    if not (width >= 1 if function == "LINEAR" else width > 0):
        raise ValueError("the window has no width")
    x = values.astype(np.float32)
    if function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        share = (x - centre) / width + 0.5
    elif width == 1:
        share = (x > centre - 0.5).astype(np.float32)
    else:
        share = (x - (centre - 0.5)) / (width - 1) + 0.5
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
