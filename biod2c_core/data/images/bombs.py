"""Files that are small and cost gigabytes or minutes to decode, refused before they are decoded.

Every decoder bounds a picture by its announced size, which :func:`~.pixels.check_pixels` limits.
What is bounded here is what the announced size does not bound: how often a JPEG goes over its
pixels, how much a deflated file holds, how long a run-length code is, and what the picture inside
a DICOM file announces for itself.
"""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO

from biod2c_core.errors import ImageError

MAX_SCANS = 100  # the usual encoders write up to 14
MAX_SCAN_PIXELS = 1_000_000_000  # scans times pixels; 20 scans are always allowed
MAX_JPEG_SEGMENTS = 20_000
MAX_INFLATED_BYTES = 256 << 20
MAX_RUN_LENGTH_BYTES = 512 << 20

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # F7: JPEG-LS
_J2K_START = b"\xff\x4f\xff\x51"
_MAX_RUNS = 30_000_000  # some seconds of counting
_RUN_LENGTH_SURELY_SMALL = MAX_RUN_LENGTH_BYTES // 64  # two bytes make at most 128


def check_jpeg(data: bytes, name: str, start: int = 0) -> tuple[int, int]:
    """Count the scans of a JPEG stream without decoding it.

    Args:
        data: The file.
        name: How messages name it.
        start: Where in it the stream begins.

    Returns:
        The width and height of its frame header; zeros if there is none.

    Raises:
        ImageError: More scans, or more scans over a large picture, than any encoder writes.
    """
    position, size, scans = start + 2, (0, 0), 0
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None or data[found.end() - 1] == 0xD9:
            return size
        marker, position = data[found.end() - 1], found.end()
        if marker in (0x01, 0xD8):
            continue
        if marker in _FRAME_MARKERS and len(data) >= position + 7:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (max(size[0], width), max(size[1], height))
        if marker == 0xDA:
            scans += 1
            _check_scans(scans, size, name)
        position += int.from_bytes(data[position : position + 2], "big")
    raise ImageError(f"{name} has over {MAX_JPEG_SEGMENTS:,} JPEG segments", "Save it again.")


def _check_scans(scans: float, size: tuple[int, int], name: str) -> None:
    pixels = max(size[0] * size[1], 1)
    limit = min(MAX_SCANS, max(20, MAX_SCAN_PIXELS // pixels))
    if scans > limit:
        raise ImageError(
            f"{name} is a JPEG of over {limit} scans, which would take too long to decode",
            "Save it again as an ordinary JPEG.",
        )


def check_jpeg_strips(data: bytes, strips: int, size: tuple[int, int], name: str) -> None:
    """Count the scans of JPEG streams inside a TIFF file, on average over its strips or tiles.

    Raises:
        ImageError: Too many.
    """
    _check_scans(data.count(b"\xff\xda") / max(strips, 1), size, name)


def check_codestream(
    data: bytes, size: tuple[int, int], length: int, name: str, run_length: bool
) -> None:
    """Refuse a compressed frame that would become larger than the header around it says.

    Args:
        data: The frame's compressed bytes.
        size: Width and height by the DICOM header.
        length: Bytes of the decoded frame by the DICOM header.
        name: How messages name the file.
        run_length: Whether it is DICOM's run-length code.

    Raises:
        ImageError: Its own size is larger, or it has too many scans.
    """
    own = size
    if run_length:
        if len(data) > _RUN_LENGTH_SURELY_SMALL and _run_length(data) > 2 * length:
            raise ImageError(f"{name}: its run-length code is far too long", "Export it again.")
    elif (start := data.find(_J2K_START, 0, 4096)) >= 0:
        own = _j2k_size(data, start, name)
    elif data[:2] == b"\xff\xd8":
        own = check_jpeg(data, name)
    if own[0] > size[0] or own[1] > size[1]:
        raise ImageError(
            f"{name}: the compressed picture is {own[0]:,} x {own[1]:,}, its header says"
            f" {size[0]:,} x {size[1]:,}",
            "Export it again.",
        )


def _j2k_size(data: bytes, start: int, name: str) -> tuple[int, int]:
    try:
        right, bottom, left, top, _, _, _, _, parts = struct.unpack_from(">8IH", data, start + 8)
    except struct.error:
        raise ImageError(f"{name}: its picture is cut off", "Copy it again.") from None
    if parts > 4:
        raise ImageError(f"{name}: its picture has {parts:,} channels", "Export it again.")
    return right - left, bottom - top


def _run_length(data: bytes) -> int:
    """How many bytes a PackBits code becomes, at most."""
    total, position = 0, 64
    for _ in range(_MAX_RUNS):
        if position >= len(data):
            return total
        code = data[position]
        total += code + 1 if code < 128 else 257 - code
        position += code + 2 if code < 128 else 2
    return len(data) * 64


def inflate(data: bytes, name: str) -> BytesIO:
    """Inflate a raw deflate stream, as DICOM's deflated transfer syntax has it.

    Raises:
        ImageError: It becomes longer than :data:`MAX_INFLATED_BYTES`, or is damaged.
    """
    stream, result = zlib.decompressobj(-zlib.MAX_WBITS), BytesIO()
    try:
        while data and not stream.eof:
            result.write(stream.decompress(data, 1 << 20))
            data = stream.unconsumed_tail
            if result.tell() > MAX_INFLATED_BYTES:
                raise ImageError(
                    f"{name} inflates to over {MAX_INFLATED_BYTES >> 20} MiB",
                    "Convert it with dcmconv.",
                )
    except zlib.error:
        raise ImageError(f"{name} is damaged or cut off", "Copy it again.") from None
    result.seek(0)
    return result
