"""One slice of a NIfTI volume, upright and in the convention of radiology.

The volume's axes are found from its affine, so ``axis`` means the body, not the order in memory:
0 sagittal, 1 coronal, 2 axial. The top of the picture is the head (or the front, for axial slices)
and its left side the patient's right (or front, for sagittal ones). Only the slice is read, and of
a gzip file all the rest too, for its checksum.
"""

from __future__ import annotations

import gzip
import math
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

import numpy as np

from biod2c_core.data.images.files import TimedFile
from biod2c_core.data.images.pixels import (
    Window,
    apply_window,
    asked_window_function,
    check_pixels,
    choose_frame,
    on_white,
    scale_to_bytes,
)
from biod2c_core.errors import ImageError, MissingDependencyError

MAX_VOLUME_BYTES = 768 << 20
MAX_EXTENSION_BYTES = 16 << 20
AXES = ("sagittal", "coronal", "axial")
GZIP = b"\x1f\x8b"
HEAD_BYTES = 544
_CIFTI_INTENTS = range(3000, 3100)
_COLOUR_INTENTS = (2003, 2004)  # vectors of RGB and of RGBA


def nifti_version(head: bytes) -> int:
    """Which NIfTI format the first bytes are of: 1, 2 or, if of none, 0.

    A pair of ``.hdr`` and ``.img``, whose header holds no voxels, is none.
    """
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if head[344:348] == b"n+1\0":
        return 1
    return 2 if 540 in sizes and head[4:8] == b"n+2\0" else 0


def decode_nifti(
    file: BinaryIO | TimedFile,
    name: str,
    max_pixels: int,
    axis: int | None,
    slice_index: int | None,
    frame: int | None,
    window: Window | None,
) -> np.ndarray:
    """Read one slice.

    Args:
        file: Open binary file, plain or gzip.
        name: How messages name it.
        max_pixels: Refuse larger slices.
        axis: 0 sagittal, 1 coronal, 2 axial (the default).
        slice_index: Slice from 0 along that axis, from the patient's left, back or feet; by default
            the middle one.
        frame: Which volume of a series over time (or of what a fourth axis is), from 0; by default
            the first.
        window: Centre and width; by default the header's display range, or the slice's own.

    Returns:
        uint8, (rows, columns) or (rows, columns, 3).

    Raises:
        ImageError: Too large, no such axis, slice or volume, no volume of the body, or damaged.
        MissingDependencyError: nibabel is not installed.
    """
    if axis not in (None, 0, 1, 2):
        raise ImageError(f"axis {axis} of {name}: expected 0, 1 or 2", f"They are {AXES}.")
    axis = 2 if axis is None else axis
    volume, stream = _open(file, name)
    shape, colour = _checked_shape(volume, name)
    through, across, up, forward = _voxel_axes(volume.affine, axis)
    check_pixels((shape[across], shape[up]), name, max_pixels)
    count, volumes = shape[through], math.prod(shape[3:])
    kind = f"{AXES[axis]} slices"
    index = choose_frame(count // 2 if slice_index is None else slice_index, count, name, kind)
    at = choose_frame(frame or 0, volumes, name, "volumes")
    place: list[Any] = [slice(None)] * 3
    place[through] = index if forward[through] else count - 1 - index
    place += np.unravel_index(at, shape[3:], order="F") if shape[3:] else []
    place += [slice(None)] if colour else []
    try:
        values = np.asarray(_voxels(volume)[tuple(place)])
        if isinstance(stream, gzip.GzipFile):
            _check_rest(stream, volume, name)
        values = values if across > up else values.swapaxes(0, 1)  # rows up, columns across
        values = values[:: -1 if forward[up] else 1, :: -1 if forward[across] else 1]
        return _shown(values, volume.header, window, name, colour)
    except ImageError:
        raise
    except (Exception, MemoryError) as error:  # nibabel and zlib raise their own families
        raise ImageError(
            f"{name} is damaged or cut off ({_reason(error)})", "Copy it again."
        ) from error


def count_slices(file: BinaryIO, name: str, axis: int) -> int:
    """How many slices a volume has across an axis of the body; no voxel is read.

    Args:
        file: Open binary file, plain or gzip.
        name: How messages name it.
        axis: 0 sagittal, 1 coronal, 2 axial.

    Raises:
        ImageError: It is not a volume, too large, or damaged.
        MissingDependencyError: nibabel is not installed.
    """
    volume, _ = _open(file, name)
    return _checked_shape(volume, name)[0][_voxel_axes(volume.affine, axis)[0]]


@contextmanager
def unpack(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """A file that each slice can be read from without all before it: gzip in a nameless temporary file.

    Args:
        file: Open binary file at its beginning, plain or gzip.
        name: How messages name it.

    Raises:
        ImageError: It is not a volume, too large, or damaged.
    """
    volume, stream = _open(file, name)
    if not isinstance(stream, gzip.GzipFile):
        yield file
        return
    _checked_shape(volume, name)
    with tempfile.TemporaryFile() as plain:
        try:
            stream.seek(0)
            _check_rest(stream, volume, name, plain)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImageError(
                f"{name} is damaged or cut off ({_reason(error)})", "Copy it again."
            ) from error
        except OSError as error:
            raise ImageError(
                f"cannot unpack {name}: {error.strerror}", "Make room, or set TMPDIR."
            ) from error
        yield cast(BinaryIO, plain)


def _reason(error: BaseException) -> str:
    if isinstance(error, gzip.BadGzipFile) and "CRC" in str(error):
        return "the checksum of its gzip stream is wrong"
    return type(error).__name__


def _open(file: BinaryIO | TimedFile, name: str) -> tuple[Any, Any]:
    try:
        from nibabel import Nifti1Header, Nifti1Image, Nifti2Header, Nifti2Image
    except ImportError as error:
        raise MissingDependencyError("nibabel", "medical") from error
    is_gzip = file.read(2) == GZIP
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if is_gzip else file
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        version = nifti_version(head)
        kind, header = (Nifti2Image, Nifti2Header) if version == 2 else (Nifti1Image, Nifti1Header)
        with _quiet():
            fields = header(head[: header.sizeof_hdr], check=False)
            offset = float(fields["vox_offset"])
            if version and not offset <= len(head) + MAX_EXTENSION_BYTES:
                raise ImageError(
                    f"{name} announces header extensions of over {MAX_EXTENSION_BYTES >> 20} MiB",
                    "Export it without them.",
                )
            return kind.from_stream(stream), stream
    except ImageError:
        raise
    except (gzip.BadGzipFile, EOFError) as error:
        raise ImageError(
            f"{name} is damaged or cut off ({_reason(error)})", "Copy it again."
        ) from error
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


def _checked_shape(volume: Any, name: str) -> tuple[tuple[int, ...], bool]:
    """Three axes of the body and those of further volumes; whether a last axis holds colours."""
    shape = tuple(int(size) for size in volume.shape)
    size = volume.get_data_dtype().itemsize * math.prod(shape)
    intent = int(volume.header["intent_code"])
    if intent in _CIFTI_INTENTS or (len(shape) > 4 and math.prod(shape[:4]) == 1):
        raise ImageError(
            f"{name} is a CIFTI file (values on a surface, not a picture)",
            "Give a volume, or a rendered picture of it.",
        )
    if len(shape) < 2 or size <= 0:
        raise ImageError(f"{name} holds no volume (shape {shape})", "Give a volume of 3 axes.")
    if size > MAX_VOLUME_BYTES:
        raise ImageError(
            f"{name} announces {size:,} bytes of voxels, over the limit of {MAX_VOLUME_BYTES:,}",
            "Cut the volume, or export the slice as PNG.",
        )
    body = shape[:3] if len(shape) > 2 else (*shape, 1)
    if sorted(body)[1] == 1:
        raise ImageError(
            f"{name} holds a row of values, not a picture (shape {shape})", "Give a volume."
        )
    colour = intent in _COLOUR_INTENTS and len(shape) == 5 and shape[4] in (3, 4)
    return body + (shape[3:4] if colour else shape[3:]), colour


def _voxels(volume: Any) -> Any:
    """The voxels as an array of at least three axes, read where it is indexed."""
    data = volume.dataobj
    return data if len(volume.shape) > 2 else data.reshape((*volume.shape, 1))


def _check_rest(
    stream: gzip.GzipFile, volume: Any, name: str, copy: IO[bytes] | None = None
) -> None:
    """Read a gzip stream to its end, where its checksum is; bounded by what the header says."""
    size = volume.get_data_dtype().itemsize * math.prod(volume.shape)
    limit = volume.dataobj.offset + size + (1 << 20)
    while block := stream.read(1 << 20):
        if stream.tell() > limit:
            raise ImageError(f"{name} holds more than its header says", "Export it again.")
        if copy is not None:
            copy.write(block)


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


def _shown(
    values: np.ndarray, header: Any, window: Window | None, name: str, colour: bool
) -> np.ndarray:
    if values.dtype.names:  # RGB or RGBA voxels
        values = np.stack([values[channel] for channel in values.dtype.names], axis=-1)
        colour = True
    if colour:
        if window is not None:
            raise ImageError(f"{name} is in colour and has no window", "Leave the window out.")
        values = values if values.dtype == np.uint8 else scale_to_bytes(values)
        return on_white(values[..., :3], values[..., 3]) if values.shape[-1] == 4 else values
    if values.dtype.kind == "c":
        values = np.abs(values)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if window is not None:
        return apply_window(values, window, asked_window_function(window))
    if high > low and math.isfinite(high - low):
        return apply_window(values, ((low + high) / 2, high - low), "LINEAR_EXACT")
    return scale_to_bytes(values)
