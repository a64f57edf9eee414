"""TIFF pages whose samples Pillow does not keep: 16 to 64 bits, signed, float, planes, many channels.

The compressed bytes are decoded by libtiff through Pillow, as if their bytes were pixels of their
own: the page's strips are put behind a small header of that shape. What the samples mean (byte
order, sign, predictor, WhiteIsZero, alpha) is then done here.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from biod2c_core.data.images.bombs import check_jpeg_strips
from biod2c_core.data.images.pixels import (
    MAX_SAMPLE_BYTES,
    check_samples,
    choose_frame,
    on_white,
    scale_from_bits,
    scale_to_bytes,
)
from biod2c_core.errors import ImageError

MAX_PAGES = 10_000
MAX_TAG_BYTES = 256 << 20
MAX_TAG_VALUES = 4_000_000
_BAND_BYTES = 32 << 20
_MAGICS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_USED = {
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    274,
    277,
    278,
    279,
    284,
    317,
    *range(322, 326),
    338,
    339,
}
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)
_JPEG = (6, 7)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_FILL_ORDER = 266

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Page:
    """The tags of one page that say where and what its samples are.

    Attributes:
        order: ``<`` or ``>``.
        tags: Whole-number tags by their number.
    """

    order: str
    tags: dict[int, tuple[int, ...]]

    def first(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return (self.tags.get(tag) or (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.first(256, 0), self.first(257, 0)

    @property
    def samples(self) -> int:
        """Samples a pixel."""
        return self.first(277, 1)

    @property
    def dtype(self) -> np.dtype:
        """Type of a sample, in the file's byte order."""
        return np.dtype(f"{self.order}{_KINDS[self.first(339, 1)]}{self.first(258, 1) // 8}")

    @property
    def is_wide(self) -> bool:
        """Whether the samples are more than unsigned bytes and can be read here."""
        wide = self.first(258, 1) > 8 or self.first(339, 1) == 2
        return wide and self.is_readable

    @property
    def is_readable(self) -> bool:
        """Whether the samples can be read here."""
        bits, kinds = self.tags.get(258, (1,)), self.tags.get(339, (1,))
        whole = (8, 16, 32, 64)
        bits_read = {1: whole, 2: whole, 3: (16, 32, 64), 4: whole}
        return (
            len(set(bits)) == 1
            and len(set(kinds)) == 1
            and bits[0] in bits_read.get(kinds[0], ())
            and self.first(259, 1) in _LOSSLESS
            and self.samples >= _CHANNELS.get(self.first(262, -1), 1 << 16)
        )


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF file."""
    return head[:4] in _MAGICS


def read_page(file: BinaryIO, frame: int, name: str) -> Page:
    """Read the tags of one page.

    Raises:
        ImageError: No such page, tags of absurd length, or JPEG strips of too many scans.
    """
    _silence_libtiff()
    file.seek(0)
    head = file.read(16)
    order, big = _MAGICS[head[:4]], head[2:4] in (b"+\0", b"\0+")
    offset = struct.unpack_from(f"{order}Q", head, 8)[0] if big else 0
    offset = offset if big else struct.unpack_from(f"{order}I", head, 4)[0]
    seen: list[int] = []
    wanted: Page | None = None
    while offset and offset not in seen and len(seen) < MAX_PAGES and (wanted is None):
        seen.append(offset)
        tags, offset = _directory(file, offset, order, big, len(seen) - 1 == frame, name)
        wanted = Page(order, tags) if len(seen) - 1 == frame else None
    if wanted is None:
        choose_frame(frame, len(seen), name)
        raise ImageError(f"{name} is damaged or truncated (no page)", "Copy it again.")
    if wanted.first(259, 1) in _JPEG:
        file.seek(0)
        strips = len(wanted.tags.get(273) or wanted.tags.get(324) or ())
        check_jpeg_strips(file.read(), strips, wanted.size, name)
    return wanted


@cache
def _silence_libtiff() -> None:
    """Libtiff, in Pillow, prints to stderr what Pillow raises as well; Pillow has no switch for it."""
    with contextlib.suppress(OSError, AttributeError):  # another system, or a libtiff linked in
        maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
        path = next((line.split(maxsplit=5)[5] for line in maps if "/libtiff" in line), None)
        if path is not None:
            ctypes.CDLL(path).TIFFSetErrorHandler(None)


def _directory(
    file: BinaryIO, offset: int, order: str, big: bool, wanted: bool, name: str
) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags used here of the directory at ``offset``, if wanted, and where the next one is."""
    count_type, word, length = ("Q", "Q", 20) if big else ("H", "I", 12)
    file.seek(offset)
    (count,) = struct.unpack(f"{order}{count_type}", file.read(struct.calcsize(count_type)))
    if count > 65535:
        raise ImageError(f"{name} is damaged or truncated (tags)", "Copy it again.")
    body = file.read(count * length)
    (following,) = struct.unpack(f"{order}{word}", file.read(struct.calcsize(word)))
    tags: dict[int, tuple[int, ...]] = {}
    total = 0
    for start in range(0, len(body), length):
        tag, kind, number = struct.unpack_from(f"{order}HH{word}", body, start)
        size = _SIZES.get(kind, 1) * number
        total += size
        # Each may point to the same bytes: a small file, read often. Pillow reads them all.
        if total > MAX_TAG_BYTES or (number > MAX_TAG_VALUES and size > number):
            raise ImageError(f"{name} has tags of absurd length", "Save it again.")
        if wanted and tag in _USED and kind in _INTEGERS:
            data = body[start + length - struct.calcsize(word) : start + length]
            if size > len(data):
                file.seek(struct.unpack(f"{order}{word}", data)[0])
                data = file.read(size)
            tags[tag] = struct.unpack_from(f"{order}{number}{_INTEGERS[kind]}", data)
    return tags, following


def decode_wide_page(page: Page, file: BinaryIO, name: str) -> Image.Image:
    """Decode a page for which :attr:`Page.is_wide` holds.

    Returns:
        A picture in mode ``RGB``, upright.

    Raises:
        ImageError: Its samples take too many bytes.
        Exception: Whatever the decoder raises on damaged data.
    """
    samples = page.samples
    check_samples(page.size, samples, page.dtype.itemsize, name)
    used = samples if page.first(262, 1) == _CMYK else min(samples, 4)
    if page.first(284, 1) == 2:
        planes = [_plane(page, file, plane, 1)[..., 0] for plane in range(min(used, samples))]
        values = np.stack(planes, axis=-1)
    else:
        values = _plane(page, file, 0, samples)
    picture = _shown(page, values)
    orientation = page.first(274, 1)
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def _plane(page: Page, file: BinaryIO, plane: int, samples: int) -> np.ndarray:
    """(rows, columns, samples) of one plane, decoded a band of strips or tiles at a time."""
    width, height = page.size
    tiled = 324 in page.tags
    chunk_width = page.first(322, width) if tiled else width
    chunk_height = min(page.first(323 if tiled else 278, height), height if not tiled else 1 << 30)
    across, down = -(-width // chunk_width), -(-height // chunk_height)
    places = page.tags[324 if tiled else 273]
    lengths = page.tags[325 if tiled else 279]
    row_bytes = across * chunk_width * samples * page.dtype.itemsize
    step = max(1, _BAND_BYTES // (row_bytes * chunk_height))
    values = np.empty((height, width, samples), page.dtype.newbyteorder("="))
    for first in range(0, down, step):
        last = min(first + step, down)
        chunks = slice((plane * down + first) * across, (plane * down + last) * across)
        top, bottom = first * chunk_height, min(last * chunk_height, height)
        rows = (last - first) * chunk_height if tiled else bottom - top
        container = _as_bytes(
            page, file, (row_bytes, rows), (row_bytes // across, chunk_height, tiled),
            places[chunks], lengths[chunks],
        )  # fmt: skip
        with Image.open(container, formats=("TIFF",)) as plain:
            data = np.asarray(plain).reshape(rows, across, -1)
        band = _samples(page, data, samples).reshape(rows, across * chunk_width, samples)
        values[top:bottom] = band[: bottom - top, :width]
    return values


def _as_bytes(
    page: Page,
    file: BinaryIO,
    size: tuple[int, int],
    chunk: tuple[int, int, bool],
    places: tuple[int, ...],
    lengths: tuple[int, ...],
) -> io.BytesIO:
    """A TIFF file of 8-bit pixels that holds the strips or tiles as they are.

    Raises:
        ImageError: They are longer together than what they decode to may be: many strips may name the
            same bytes.
    """
    if sum(lengths) > MAX_SAMPLE_BYTES:
        raise ImageError("a TIFF with strips that are too long together", "Save it again.")
    body = io.BytesIO()
    starts = []
    for place, length in zip(places, lengths, strict=True):
        file.seek(place)
        starts.append(8 + body.tell())
        body.write(file.read(length))
    at, pieces, extra = 8 + body.tell(), len(starts), struct.pack(f"<{len(starts)}I", *starts)
    extra += struct.pack(f"<{pieces}I", *lengths)
    width, rows, tiled = chunk
    # Four bytes as the inks of a pixel, where they fit: Pillow limits pixels, not bytes.
    inks = 1 if width % 4 else 4
    width, across = width // inks, size[0] // inks
    tags = {
        **{256: (4, 1, across), 257: (4, 1, size[1])},
        258: (3, 1, 8) if inks == 1 else (3, 4, at + len(extra)),
        **{259: (3, 1, page.first(259, 1)), 262: (3, 1, 1 if inks == 1 else _CMYK)},
        **{277: (3, 1, inks), _FILL_ORDER: (3, 1, page.first(_FILL_ORDER, 1))},
    }
    extra += struct.pack("<4H", 8, 8, 8, 8)
    shape = {322: (4, 1, width), 323: (4, 1, rows)} if tiled else {278: (4, 1, rows)}
    where, how_long = (324, 325) if tiled else (273, 279)
    inline = pieces == 1
    tags |= shape | {
        where: (4, pieces, starts[0] if inline else at),
        how_long: (4, pieces, lengths[0] if inline else at + 4 * pieces),
    }
    directory = struct.pack("<H", len(tags))
    for tag in sorted(tags):
        directory += struct.pack("<HHII", tag, *tags[tag])
    head = struct.pack("<2sHI", b"II", 42, at + len(extra))
    return io.BytesIO(head + body.getvalue() + extra + directory + bytes(4))


def _samples(page: Page, data: np.ndarray, samples: int) -> np.ndarray:
    """Bytes of chunk rows, (rows, chunks, bytes), as samples in the machine's order."""
    rows, across, _ = data.shape
    predictor = page.first(317, 1)
    if predictor == 3:  # floats: bytes by their significance, each byte less the one before it
        size = page.dtype.itemsize
        steps = np.cumsum(data.reshape(rows, across, -1, samples), axis=2, dtype=np.uint8)
        planes = steps.reshape(rows, across, size, -1).swapaxes(2, 3)
        values = np.ascontiguousarray(planes).view(page.dtype.newbyteorder(">"))
        return values.astype(page.dtype.newbyteorder("=")).reshape(rows, across, -1, samples)
    values = np.ascontiguousarray(data).view(page.dtype).astype(page.dtype.newbyteorder("="))
    values = values.reshape(rows, across, -1, samples)
    if predictor == 2:
        whole = values.view(f"u{page.dtype.itemsize}")
        values = np.cumsum(whole, axis=2, dtype=whole.dtype).view(values.dtype)
    return values


def _shown(page: Page, values: np.ndarray) -> Image.Image:
    photometric = page.first(262, 1)
    channels = _CHANNELS[photometric]
    colours = values[..., :channels] if channels > 1 else values[..., 0]
    if photometric == _CMYK:
        return Image.fromarray(_whole_range(colours), "CMYK").convert("RGB")
    share, premultiplied = _opacity(page, values, channels)
    seen = None
    if share is not None:
        seen = share > 0
        if premultiplied:
            most = 1.0 if colours.dtype.kind == "f" else np.iinfo(colours.dtype).max
            share_of_each = share if channels == 1 else share[..., None]
            colours = colours / np.maximum(share_of_each, 1e-6)
            np.minimum(colours, most, out=colours)
    shown = colours if colours.dtype == np.uint8 else scale_to_bytes(colours, seen)
    if photometric == _WHITE_IS_ZERO:
        shown = 255 - shown
    shown = shown if channels > 1 else np.broadcast_to(shown[..., None], (*shown.shape, 3))
    if share is None:
        return Image.fromarray(np.ascontiguousarray(shown))
    share *= 255
    return Image.fromarray(on_white(shown, np.rint(share, out=share).astype(np.uint8)))


def _opacity(page: Page, values: np.ndarray, channels: int) -> tuple[np.ndarray | None, bool]:
    """Opacity from 0 to 1, where the page has it, and whether colours are multiplied by it."""
    if values.shape[-1] <= channels:
        return None, False
    kinds = page.tags.get(338, (2,) if channels == 3 and values.shape[-1] == 4 else (0,))
    if kinds[0] not in (1, 2):
        return None, False
    opacity = values[..., channels].astype(np.float32)
    if values.dtype.kind != "f":
        opacity /= np.iinfo(values.dtype).max
    np.nan_to_num(opacity, copy=False)
    return np.clip(opacity, 0, 1, out=opacity), kinds[0] == 1


def _whole_range(values: np.ndarray) -> np.ndarray:
    """Shares of ink by the range of their type, floats from 0 to 1."""
    if values.dtype.kind == "f":
        return np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    bits = values.dtype.itemsize * 8
    return scale_from_bits(np.maximum(values, 0), bits - (values.dtype.kind == "i"))
