"""Steps that every kind of image shares: limits, frames, and wide values made visible."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from biod2c_core.errors import ImageError

MAX_PIXELS = 64_000_000
MAX_SAMPLE_BYTES = 256 << 20  # over 8 bits each: their conversion takes four times as much
Window = tuple[float, float]
_BLOCK = 1 << 22  # values converted at a time: float copies of a whole picture would be gigabytes


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


def check_samples(size: tuple[int, int], samples: int, item: int, name: str) -> None:
    """Refuse a picture whose samples of ``item`` bytes each would take too much memory to convert.

    Raises:
        ImageError: They take over :data:`MAX_SAMPLE_BYTES`.
    """
    if size[0] * size[1] * samples * item > MAX_SAMPLE_BYTES:
        raise ImageError(
            f"{name} has over {MAX_SAMPLE_BYTES >> 20} MiB of samples", "Save it with fewer bits."
        )


def choose_frame(frame: int, frames: int, name: str, kind: str = "frames") -> int:
    """A frame's index, if the file has it.

    Raises:
        ImageError: It has not.
    """
    if not 0 <= frame < frames:
        raise ImageError(f"{name} has {kind} 0 to {frames - 1}, not {frame}", "Choose one of them.")
    return frame


def check_window(window: Window, name: str) -> None:
    """Refuse a window that was asked for and cannot be applied.

    Raises:
        ImageError: A number that is not finite, or a width of 0 or less.
    """
    if not (all(math.isfinite(each) for each in window) and window[1] > 0):
        centre, width = window
        raise ImageError(
            f"the window {centre:g},{width:g} for {name} cannot be applied: its width must be over 0",
            "Give centre and width in the file's units, 40,400 for example.",
        )


def scale_to_bytes(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Scale the finite range of an array to 0..255.

    Args:
        values: Any real dtype and shape.
        counted: bool, of the same shape or of its first axes: what makes the range; by default all.

    Returns:
        uint8 of the same shape. Not-a-number becomes 0, infinities and values outside the range
        the nearer end, and an array of one value is all 0.
    """
    low, high = _finite_range(values, counted)
    if low >= high:
        return np.zeros(values.shape, np.uint8)

    def convert(block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.subtract(block, low, dtype=np.float64)
            scaled *= 255.0 / (high - low)
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)

    return _in_blocks(values, convert)


def _finite_range(values: np.ndarray, counted: np.ndarray | None) -> tuple[float, float]:
    """The smallest and largest finite value, without a copy; infinity and its negative if none."""
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        where = finite if counted is None else finite & _like(counted, values)
        low = values.min(where=where, initial=np.inf)
        return float(low), float(values.max(where=where, initial=-np.inf))
    if values.size == 0 or not (counted is None or counted.any()):
        return np.inf, -np.inf
    if counted is None:
        return float(values.min()), float(values.max())
    ends, where = np.iinfo(values.dtype), _like(counted, values)
    low = values.min(where=where, initial=ends.max)
    return float(low), float(values.max(where=where, initial=ends.min))


def _like(counted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Repeated over the last axes, as for the channels of a pixel."""
    return counted.reshape(counted.shape + (1,) * (values.ndim - counted.ndim))


def scale_from_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Bring unsigned values of a number of bits to 0..255, all by one factor.

    Args:
        values: Any integer dtype and shape.
        bits: How many bits make white: ``2**bits - 1`` becomes 255.

    Returns:
        uint8 of the same shape; larger values are white.
    """
    if bits == 8 and values.dtype == np.uint8:
        return values
    factor = 255.0 / (2**bits - 1)
    return _in_blocks(values, lambda block: np.clip(np.rint(block * factor), 0, 255))


def apply_window(values: np.ndarray, window: Window, function: str = "LINEAR") -> np.ndarray:
    """The window of PS3.3, C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: Rescaled values of any real dtype.
        window: Centre c and width w.
        function: ``LINEAR``: (x - (c - 0.5)) / (w - 1) + 0.5; ``LINEAR_EXACT``: (x - c) / w + 0.5;
            ``SIGMOID``: 1 / (1 + exp(-4 (x - c) / w)). Clipped to 0..1, then 0..255.

    Returns:
        uint8 of the same shape; not-a-number becomes 0.

    Raises:
        ValueError: The width is under 1 (LINEAR) or not positive.
    """
    centre, width = window
    if not has_width(width, function):
        raise ValueError("the window has no width")

    def convert(block: np.ndarray) -> np.ndarray:
        x = block.astype(np.float32)
        if function == "SIGMOID":
            share = 1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -80, 80)))
        elif function == "LINEAR_EXACT":
            share = (x - centre) / width + 0.5
        elif width == 1:
            share = (x > centre - 0.5).astype(np.float32)
        else:
            share = (x - (centre - 0.5)) / (width - 1) + 0.5
        return np.rint(np.nan_to_num(np.clip(share, 0, 1), nan=0.0) * 255)

    return _in_blocks(values, convert)


def has_width(width: float, function: str) -> bool:
    """Whether the standard knows a window of this width: from 1 (LINEAR), or else above 0."""
    return width >= 1 if function == "LINEAR" else width > 0


def asked_window_function(window: Window) -> str:
    """How a window that the user gives is applied: as DICOM's LINEAR, below a width of 1 exactly."""
    return "LINEAR" if window[1] >= 1 else "LINEAR_EXACT"


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Compose on a white page.

    Args:
        colours: uint8, (rows, columns, 3).
        alpha: uint8, (rows, columns); 0 is transparent.

    Returns:
        uint8, (rows, columns, 3).
    """
    result = np.empty(colours.shape, np.uint8)
    step = max(1, _BLOCK // max(colours.shape[1], 1))
    for top in range(0, len(colours), step):
        share = alpha[top : top + step, :, None].astype(np.uint16)
        mixed = colours[top : top + step] * share + 255 * (255 - share)
        result[top : top + step] = (mixed + 127) // 255
    return result


def _in_blocks(values: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What ``convert`` makes of each value, as uint8, a block at a time."""
    result = np.empty(values.shape, np.uint8)
    source: np.ndarray = values
    target: np.ndarray = result
    if values.flags.c_contiguous:
        source, target = values.reshape(-1), result.reshape(-1)
    step = max(1, _BLOCK * len(source) // max(source.size, 1)) if source.size else 1
    for start in range(0, len(source), step):
        target[start : start + step] = convert(source[start : start + step])
    return result
