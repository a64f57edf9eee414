"""One slice of a NIfTI volume, upright and in the convention of radiology.

The volume's axes are found from its affine, so ``axis`` means the body, not the order in memory:
0 sagittal, 1 coronal, 2 axial. The top of the picture is the head (or the front, for axial slices)
and its left side the patient's right (or front, for sagittal ones). Only the slice is read.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from biod2c_core.data.pixels import Window, apply_window, check_pixels, choose_frame, scale_to_bytes
from biod2c_core.errors import ImageError, MissingDependencyError

MAX_VOLUME_BYTES = 768 << 20
AXES = ("sagittal", "coronal", "axial")
_GZIP = b"\x1f\x8b"


def is_nifti(head: bytes, name: str) -> bool:
    """Whether the file is called or begins like a NIfTI volume."""
    return name.lower().endswith((".nii", ".nii.gz")) or head[344:348] == b"n+1\0"


def decode_nifti(
    file: BinaryIO,
    name: str,
    max_pixels: int,
    axis: int,
    frame: int | None,
    window: Window | None,
) -> np.ndarray:
    """Read one slice.

    Args:
        file: Open binary file, plain or gzip.
        name: How messages name it.
        max_pixels: Refuse larger slices.
        axis: 0 sagittal, 1 coronal, 2 axial.
        frame: Slice from 0 along that axis, from the patient's left, back or feet; by default the
            middle one. Of a series over time the first volume is taken.
        window: Centre and width; by default the header's display range, or the slice's own.

    Returns:
        uint8, (rows, columns) or (rows, columns, 3).

    Raises:
        ImageError: Too large, no such axis or slice, or damaged.
        MissingDependencyError: nibabel is not installed.
    """
    if axis not in range(3):
        raise ImageError(f"axis {axis} of {name}: expected 0, 1 or 2", f"They are {AXES}.")
    volume = _open(file, name)
    shape = _checked_shape(volume, name)
    through, across, up, forward = _voxel_axes(volume.affine, axis)
    check_pixels((shape[across], shape[up]), name, max_pixels)
    count = shape[through]
    index = choose_frame(count // 2 if frame is None else frame, count, name)
    place: list[Any] = [slice(None)] * 3 + [0] * (len(shape) - 3)
    place[through] = index if forward[through] else count - 1 - index
    try:
        values = np.asarray(volume.dataobj[tuple(place)])
        values = values if across > up else values.swapaxes(0, 1)  # rows go up, columns across
        values = values[:: -1 if forward[up] else 1, :: -1 if forward[across] else 1]
        return _shown(values, volume.header, window)
    except (Exception, MemoryError) as error:  # nibabel and zlib raise their own families
        raise ImageError(
            f"{name} is damaged or cut off ({type(error).__name__})", "Copy it again."
        ) from error


def _open(file: BinaryIO, name: str) -> Any:
    try:
        from nibabel import Nifti1Image, Nifti2Image
    except ImportError as error:
        raise MissingDependencyError("nibabel", "medical") from error
    is_gzip = file.read(2) == _GZIP
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if is_gzip else file
    try:
        kind = Nifti2Image if int.from_bytes(stream.read(4), "little") == 540 else Nifti1Image
        stream.seek(0)
        with _quiet():
            return kind.from_stream(stream)
    except (Exception, MemoryError) as error:
        raise ImageError(
            f"{name} is not a readable NIfTI file ({type(error).__name__})", "Export it again."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's repairs of odd headers off the screen."""
    from nibabel.imageglobals import logger

    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _checked_shape(volume: Any, name: str) -> tuple[int, ...]:
    shape = tuple(int(size) for size in volume.shape)
    size = volume.get_data_dtype().itemsize * math.prod(shape)
    if len(shape) < 3 or size <= 0:
        raise ImageError(f"{name} holds no volume (shape {shape})", "Give a volume of 3 axes.")
    if size > MAX_VOLUME_BYTES:
        raise ImageError(
            f"{name} announces {size:,} bytes of voxels, over the limit of {MAX_VOLUME_BYTES:,}",
            "Cut the volume, or export the slice as PNG.",
        )
    return shape


def _voxel_axes(affine: np.ndarray, axis: int) -> tuple[int, int, int, list[bool]]:
    """Which axis of memory is which of the body.

    Returns:
        The memory axes through the slices, across the picture and up it; and for each memory axis
        whether it runs to the right, front or head.
    """
    from nibabel.orientations import io_orientation

    directions = io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    if not np.isfinite(directions).all():
        directions = np.array([[0, 1], [1, 1], [2, 1]])  # no usable affine: take memory's order
    body = [int(each) for each in directions[:, 0]]
    across, up = {0: (1, 2), 1: (0, 2), 2: (0, 1)}[axis]
    return body.index(axis), body.index(across), body.index(up), [*(directions[:, 1] > 0)]


def _shown(values: np.ndarray, header: Any, window: Window | None) -> np.ndarray:
    if values.dtype.names:  # RGB voxels
        return np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if window is not None:
        return apply_window(values, window)
    if high > low:
        return apply_window(values, ((low + high) / 2, high - low), "LINEAR_EXACT")
    return scale_to_bytes(values)
