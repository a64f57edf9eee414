"""Ordinary picture files, decoded by Pillow.

Pillow keeps eight bits of each colour. Where a file holds more, its values are taken in two passes,
the high bytes and the low ones, or, for TIFF, by :mod:`.tiff`; then all channels are scaled by one
factor, the picture's own smallest to largest value.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from biod2c_core.data.images.bombs import check_jpeg
from biod2c_core.data.images.pixels import (
    check_pixels,
    check_samples,
    choose_frame,
    on_white,
    scale_to_bytes,
)
from biod2c_core.data.images.recognize import PILLOW_FORMATS, READ_FORMATS, check_name
from biod2c_core.data.images.tiff import UPRIGHT, decode_wide_page, is_tiff, read_page
from biod2c_core.errors import ImageError

MAX_ANIMATED_PIXELS = 2_000_000_000  # a later frame is made from all before it
_WIDE_MODES = ("I", "F")  # and every "I;16..."
_EXIF_ORIENTATION = 0x0112
# How 16-bit colour arrives from Pillow's PNG reader, and how its low bytes are asked for.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
_WIDE_CHANNELS = {"RGB;16B": 3, "RGBA;16B": 4, "LA;16B": 2}
_GREY_KEYS = {"L;2": 85, "L;4": 17}  # pixels are scaled to 8 bits, the transparent grey is not

# Pillow warns of damaged EXIF blocks (ignored here) and of sizes that are errors here anyway.
warnings.filterwarnings("ignore", module=r"PIL\.")


_strict = threading.Lock()
_readers, _others = 0, False


@contextmanager
def whole_files_only() -> Iterator[None]:
    """Have Pillow refuse truncated files, also where another library has told it to fill them with grey."""
    global _readers, _others  # Pillow's switch is the process's too
    with _strict:
        if not _readers:
            _others, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        _readers += 1
    try:
        yield
    finally:
        with _strict:
            _readers -= 1
            if not _readers:
                ImageFile.LOAD_TRUNCATED_IMAGES = _others


@whole_files_only()
def decode_picture(file: BinaryIO, name: str, max_pixels: int, frame: int) -> Image.Image:
    """Decode one frame.

    Args:
        file: Open binary file, at its beginning.
        name: How messages name it.
        max_pixels: Refuse a header that announces more.
        frame: From 0.

    Returns:
        A picture in mode ``RGB``, upright and without metadata.

    Raises:
        ImageError: Not a picture, damaged, truncated, over a limit, or without that frame.
    """
    page = None
    try:
        head = file.read(16)
        if head[:2] == b"\xff\xd8":
            check_jpeg(head + file.read(), name)
        elif is_tiff(head):
            page = read_page(file, frame, name)
            check_pixels(page.size, name, max_pixels)
            if page.is_wide or (page.is_readable and not _pillow_reads(file)):
                return decode_wide_page(page, file, name)
        file.seek(0)
        with Image.open(file, formats=PILLOW_FORMATS) as picture:
            check_pixels(picture.size, name, max_pixels)
            if frame:
                _seek(picture, frame, file, name)
                check_pixels(picture.size, name, max_pixels)
            upright = _loaded(picture, file, name, frame)
            upright.info.clear()  # comments, EXIF places and dates
            return upright
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        check_name(name)
        if page is not None:
            raise ImageError(
                f"{name} is a TIFF file of a kind that is not read", "Save it as PNG."
            ) from None
        raise ImageError(
            f"{name} is not an image in a known format",
            f"Give one of: {', '.join(READ_FORMATS)}.",
        ) from None
    except Image.DecompressionBombError as error:
        said = str(error).rstrip(".")
        raise ImageError(f"{name} is too large: {said}", "Save a smaller version.") from error
    except (Exception, MemoryError) as error:  # decoders raise nearly anything on damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(
            f"{name} is damaged or truncated ({reason})", "Copy or export it again."
        ) from error


def _pillow_reads(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        Image.open(file, formats=("TIFF",))
    except Image.UnidentifiedImageError:  # a number of channels it does not expect
        return False
    return True


def _seek(picture: Image.Image, frame: int, file: BinaryIO, name: str) -> None:
    if picture.format != "TIFF":  # its pages have been counted
        choose_frame(frame, getattr(picture, "n_frames", 1), name)
    width, height = picture.size
    if picture.format in ("GIF", "PNG", "WEBP") and frame * width * height > MAX_ANIMATED_PIXELS:
        raise ImageError(
            f"frame {frame} of {name} is made from {frame} others, too many of this size",
            "Save that frame as a picture of its own.",
        )
    picture.seek(frame)
    tiles: list[Any] = getattr(picture, "tile", [])
    if tiles and tiles[0][0] == "jpeg":  # a picture behind the first one (MPO)
        file.seek(0)
        check_jpeg(file.read(), name, tiles[0][2])


def _loaded(picture: Image.Image, file: BinaryIO, name: str, frame: int) -> Image.Image:
    """The decoded picture in RGB, upright."""
    tiles: list[Any] = getattr(picture, "tile", [])
    layout = str(tiles[0][3]) if tiles and picture.format == "PNG" else ""
    key = picture.info.get("transparency")
    if layout in _WIDE_CHANNELS:
        check_samples(picture.size, _WIDE_CHANNELS[layout], 2, name)
        if frame:
            raise ImageError(f"{name} is animated with 16 bits a colour", "Take its first frame.")
        return _wide_png(picture, file, layout, key)
    offset = tiles[0][2] if tiles else 0
    wide_ppm = tiles and picture.format == "PPM" and picture.mode == "RGB" and tiles[0][0] == "ppm"
    if wide_ppm and tiles[0][3][1] > 255:
        return _wide_ppm(picture, file, offset)
    picture.load()
    if layout in _GREY_KEYS and key is not None:
        picture.info["transparency"] = key * _GREY_KEYS[layout]
    return to_upright_rgb(picture)


def _wide_png(picture: Image.Image, file: BinaryIO, layout: str, key: Any) -> Image.Image:
    """PNG of 16 bits a channel: colour, or grey with alpha."""

    def decoded(raw: str) -> np.ndarray:
        file.seek(0)
        with Image.open(file, formats=("PNG",)) as again:
            tile: Any = again.tile[0]
            again.tile = [tile._replace(args=raw)]
            values = np.asarray(again)
            picture.info.update(again.info)  # EXIF may follow the pixels
            return values

    if layout == "LA;16B":
        # high and low byte of grey, then of alpha
        values = np.ascontiguousarray(decoded("RGBA")).view(">u2")
    else:
        values = decoded(layout).astype(np.uint16)
        values <<= 8
        values |= decoded(_LOW_BYTES[layout])
    picture.info.setdefault("exif", b"")  # else Pillow decodes once more to look for it
    colours = values[..., :3] if values.shape[-1] > 2 else values[..., :1]
    if values.shape[-1] != 3:
        alpha = (values[..., -1] >> 8).astype(np.uint8)
        seen = values[..., -1] > 0
    elif key is not None:
        seen = (colours != np.array(key, np.uint16)).any(axis=-1)
        alpha = np.where(seen, 255, 0).astype(np.uint8)
    else:
        return _upright(picture, Image.fromarray(scale_to_bytes(colours)))
    shown = np.broadcast_to(scale_to_bytes(colours, seen), (*alpha.shape, 3))
    return _upright(picture, Image.fromarray(on_white(shown, alpha)))


def _wide_ppm(picture: Image.Image, file: BinaryIO, offset: int) -> Image.Image:
    """Binary PPM of more than 8 bits: big-endian words."""
    width, height = picture.size
    file.seek(offset)
    values = np.frombuffer(file.read(width * height * 6), ">u2").reshape(height, width, 3)
    return Image.fromarray(scale_to_bytes(values))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB, by the table in ``docs/data-formats.md``."""
    if picture.mode in _WIDE_MODES or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        key = picture.info.get("transparency")
        if not isinstance(key, int):
            return Image.fromarray(scale_to_bytes(values)).convert("RGB")
        seen = values != key
        shown = scale_to_bytes(values, seen)
        return Image.fromarray(np.where(seen, shown, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "LAB":
        raise ImageError("the picture is in the colour space LAB", "Save it as RGB.")
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
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
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture
