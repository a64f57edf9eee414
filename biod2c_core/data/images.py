"""Any image file to an RGB picture, or to one line that says what is wrong with it.

What happens to each kind of pixel:

======================  ====================================================================
kind                    becomes RGB by
======================  ====================================================================
grey, palette, bilevel  repeating or looking up the value
16- or 32-bit, float    scaling the picture's own smallest to largest finite value to 0..255
CMYK, YCbCr             Pillow's plain conversion (colour profiles are not applied)
alpha, colour key       composition on white, as on a page; raw colours under alpha are noise
EXIF orientation        turning the pixels upright; a damaged EXIF block is ignored
several frames          taking ``frame`` (the first one by default)
DICOM                   rescale, window, MONOCHROME1 inverted; see :mod:`.dicom`
NIfTI                   one upright slice; see :mod:`.nifti`
======================  ====================================================================

Limits are checked on the header before a pixel is allocated. Only formats whose decoders are plain
functions of the bytes are tried: EPS, for example, would start another program.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from biod2c_core.data.dicom import decode_dicom, is_dicom
from biod2c_core.data.nifti import decode_nifti, is_nifti
from biod2c_core.data.pixels import MAX_PIXELS, Window, check_pixels, choose_frame, scale_to_bytes
from biod2c_core.errors import ImageError

MAX_BYTES = 512 * 1024**2
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM")
IMAGE_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "png", "gif", "bmp", "tif", "tiff", "webp", "jp2", "j2k"),
        *("ppm", "pgm", "pbm", "dcm", "nii", "nii.gz"),
    )
)

_HEAD_BYTES = 352
_WIDE_MODES = ("I", "F")  # and every "I;16..."
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of damaged EXIF blocks (ignored here) and of sizes that are errors here anyway.
warnings.filterwarnings("ignore", module=r"PIL\.")


def load_image(
    source: str | Path | bytes | BinaryIO,
    *,
    root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    frame: int | None = None,
    axis: int = 2,
    window: Window | None = None,
) -> Image.Image:
    """Decode one image completely.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        root: Folder that a path is relative to and must not leave; see :func:`resolve_image`.
        max_pixels: Refuse a header that announces more pixels (width times height) than this.
        max_bytes: Refuse a longer file.
        frame: Which frame of an animation, multi-page or DICOM file, from 0, by default the first;
            which slice of a NIfTI volume, by default the middle one.
        axis: NIfTI only: slices across 0 left-right, 1 back-front or 2 feet-head.
        window: DICOM and NIfTI only: centre and width, instead of the file's own.

    Returns:
        A picture in mode ``RGB``, upright, detached from the file and without its metadata.

    Raises:
        ImageError: The image is missing, no image, damaged, truncated or over a limit.
        MissingDependencyError: DICOM or NIfTI without the extra ``medical``.
    """
    name = describe_source(source)
    with _open(source, name, root, max_bytes) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if not (is_dicom(head) or is_nifti(head, name)):
            return _decode(file, name, max_pixels, frame or 0)
        with np.errstate(all="ignore"):  # damaged headers hold absurd scales
            if is_dicom(head):
                values = decode_dicom(file, name, max_pixels, frame, window)
            else:
                values = decode_nifti(file, name, max_pixels, axis, frame, window)
    return Image.fromarray(values).convert("RGB")


def _open(
    source: str | Path | bytes | BinaryIO, name: str, root: str | Path | None, max_bytes: int
) -> BinaryIO:
    if not isinstance(source, str | Path):
        return io.BytesIO(_read_limited(source, name, max_bytes))
    path = Path(source) if root is None else resolve_image(root, source)
    try:
        return check_image_file(path, max_bytes).open("rb")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", "Check its rights.") from error


def resolve_image(root: str | Path, name: str | Path, *, allow_outside: bool = False) -> Path:
    """The path of an image that a record names, never outside its root.

    The check is made on the written path, ``..`` taken out, and the same path is then opened. A
    symbolic link inside the root is followed: whoever owns the folder put it there.

    Args:
        root: The image root.
        name: Path relative to the root, or an absolute one inside it.
        allow_outside: Accept paths that leave the root.

    Raises:
        ImageError: The path leaves the root.
    """
    # Not Path.resolve(): it follows links, which may point anywhere the folder's owner wishes.
    base = os.path.abspath(root)  # noqa: PTH100
    path = os.path.normpath(os.path.join(base, name))  # noqa: PTH118
    inside = path == base or path.startswith(base.rstrip(os.sep) + os.sep)
    if not inside and not allow_outside:
        raise ImageError(
            f"image {str(name)!r} lies outside the image root {str(root)!r}",
            "Use paths inside the image root, or name another image root.",
        )
    return Path(path)


def describe_source(source: str | Path | bytes | BinaryIO) -> str:
    """How an error message names the image."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "the image data"


def check_image_file(path: Path, max_bytes: int = MAX_BYTES) -> Path:
    """Refuse what is no regular file of a sensible length, before opening it.

    Raises:
        ImageError: Missing, a folder, a device, empty, unreadable or too long.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ImageError(f"image not found: {path}", "Check the path and the image root.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read image {str(path)!r}: {error}", "Check the path.") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ImageError(f"{path} is {kind}, expected an image file", "Name one image file.")
    _check_length(status.st_size, str(path), max_bytes)
    return path


def _check_length(length: int, name: str, max_bytes: int) -> None:
    if length == 0:
        raise ImageError(f"{name} is empty (0 bytes), expected an image", "Copy the file again.")
    if length > max_bytes:
        raise ImageError(
            f"{name} has {length:,} bytes, over the limit of {max_bytes:,}",
            "Save it smaller, or raise the limit (max_bytes).",
        )


def _read_limited(source: bytes | BinaryIO, name: str, max_bytes: int) -> bytes:
    data = source if isinstance(source, bytes) else source.read(max_bytes + 1)
    _check_length(len(data), name, max_bytes)
    return data


def _decode(data: BinaryIO, name: str, max_pixels: int, frame: int) -> Image.Image:
    try:
        with Image.open(data, formats=PILLOW_FORMATS) as picture:
            check_pixels(picture.size, name, max_pixels)
            if frame:
                picture.seek(choose_frame(frame, getattr(picture, "n_frames", 1), name))
                check_pixels(picture.size, name, max_pixels)
            picture.load()
            upright = to_upright_rgb(picture)
            upright.info.clear()  # comments, EXIF places and dates
            return upright
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image in a known format",
            f"Give one of: {', '.join(PILLOW_FORMATS)}.",
        ) from None
    except Image.DecompressionBombError as error:
        said = str(error).rstrip(".")
        raise ImageError(f"{name} is too large: {said}", "Save a smaller version.") from error
    except (Exception, MemoryError) as error:  # decoders raise nearly anything on damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(
            f"{name} is damaged or truncated ({reason})", "Copy or export it again."
        ) from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB, by the table at the top of this module."""
    if picture.mode in _WIDE_MODES or picture.mode.startswith("I;16"):
        return Image.fromarray(scale_to_bytes(np.asarray(picture))).convert("RGB")
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        page = Image.new("RGB", picture.size, "white")
        page.paste(layered, mask=layered.getchannel("A"))
        return page
    # convert() returns a copy, also of an RGB picture: the result outlives the file
    return picture.convert("RGB")


def to_upright_rgb(picture: Image.Image) -> Image.Image:
    """:func:`to_rgb`, and turned as its EXIF block says."""
    return _upright(picture, to_rgb(picture))


def _upright(source: Image.Image, picture: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return picture
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture
