"""Pictures: every format that is read, its header, chunks and tags falsified, and bombs of each."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from children import Read, Said, outcome_of_call, outcome_of_command
from mutations import NUMBERS, mutated, renumber
from PIL import Image
from valid_files import encoded, picture_seeds

from biod2c_core.data.images import load_image
from biod2c_core.inference.serving.pictures import PictureRequest, make_picture
from biod2c_core.inference.serving.requests import Limits, decode_image


def prepare(folder: Path) -> dict[str, bytes]:
    """Small valid files of each kind, by a name with their suffix."""
    return picture_seeds()


def injured(name: str, data: bytes, rng: random.Random) -> bytes:
    """Damage a file as its format allows, or any bytes."""
    special = {"png": _png, "jpg": _jpeg, "tif": _tiff, "ppm": _ppm, "pgm": _ppm}
    kind = rng.random()
    if kind < 0.5 and (change := special.get(name.rpartition(".")[2])) is not None:
        return change(data, rng)
    if kind < 0.75:
        body = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            renumber(body, rng, 128)
        return bytes(body)
    return mutated(data, rng)


def _times(part: bytes, wanted: int) -> int:
    """How often a part is repeated: as wanted, but a file must fit into this process."""
    return min(wanted, 2**26 // max(1, len(part)))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(data: bytes, rng: random.Random) -> bytes:
    """Chunks with true checksums: sizes, order, copies, and what inflates."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += length + 12
    for _ in range(rng.randint(1, 3)):
        one = rng.choice(chunks)
        kind = rng.randrange(7)
        if kind == 0 and len(one[1]) >= 4:
            body = bytearray(one[1])
            renumber(body, rng, 32)
            one[1] = bytes(body)
        elif kind == 1:
            chunks[0][1] = _falsified(chunks[0][1], rng)
        elif kind == 2:
            chunks.insert(rng.randrange(len(chunks) + 1), list(one))
        elif kind == 3 and len(chunks) > 2:
            chunks.remove(one)
        elif kind == 4:
            chunks += [list(one)] * _times(one[1], rng.choice((10, 3000)))
        elif kind == 5:
            text = b"Comment\0\0" + zlib.compress(bytes(rng.choice((10**5, 3 * 10**7))))
            chunks.insert(1, [rng.choice((b"zTXt", b"iCCP", b"iTXt", b"eXIf")), text])
        else:
            chunks.insert(1, [b"tEXt", b"\x1b]0;x\x07\0" + b"x" * rng.choice((10, 10**6))])
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def _falsified(header: bytes, rng: random.Random) -> bytes:
    sizes = [rng.choice((0, 1, 31, 8000, 60_000, 2**31 - 1)) for _ in range(2)]
    return struct.pack(">II", *sizes) + bytes(
        [
            rng.choice((1, 2, 4, 8, 16, 3)),
            rng.choice((0, 2, 3, 4, 6, 5)),
            0,
            0,
            rng.choice((0, 1, 2)),
        ]
    )


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    """Segments: sizes, copies, other orders, more scans."""
    segments, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big") + 2
        segments.append(data[at : at + length])
        at += length
    segments.append(data[at:])
    for _ in range(rng.randint(1, 3)):
        where = rng.randrange(1, len(segments))
        kind = rng.randrange(5)
        if kind == 0:
            body = bytearray(segments[where])
            renumber(body, rng, 24)
            segments[where] = bytes(body)
        elif kind == 1:
            segments.insert(where, rng.choice(segments))
        elif kind == 2:
            segments[where] *= _times(segments[where], rng.choice((2, 40, 400)))
        elif kind == 3:
            del segments[where]
            segments = segments if len(segments) > 1 else [data]
        else:
            segments.insert(where, b"\xff\xfe" + b"\xff\xff" + b"\x1b[2J" * 13_106)
    return b"".join(segments)


def _tiff(data: bytes, rng: random.Random) -> bytes:
    """Entries of the directory: types, counts and values."""
    order = "<" if data[:2] == b"II" else ">"
    body = bytearray(data)
    (start,) = struct.unpack_from(order + "I", body, 4)
    (count,) = struct.unpack_from(order + "H", body, start)
    for _ in range(rng.randint(1, 3)):
        at = start + 2 + 12 * rng.randrange(count)
        kind = rng.randrange(5)
        if kind == 0:
            struct.pack_into(order + "H", body, at + 2, rng.choice((0, 1, 2, 3, 4, 5, 12, 16, 99)))
        elif kind == 1:
            struct.pack_into(order + "I", body, at + 4, rng.choice(NUMBERS) % 2**32)
        elif kind == 2:
            struct.pack_into(order + "I", body, at + 8, rng.choice(NUMBERS) % 2**32)
        elif kind == 3:
            tag = rng.choice(
                (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 330, 339, 347)
            )
            struct.pack_into(order + "H", body, at, tag)
        elif start + 2 + 12 * count + 4 <= len(body):
            struct.pack_into(
                order + "I", body, start + 2 + 12 * count, rng.choice((start, 8, 2**31))
            )
    return bytes(body)


def _ppm(data: bytes, rng: random.Random) -> bytes:
    words = [rng.choice((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"P7"))]
    numbers = (
        b"0",
        b"1",
        b"31",
        b"-4",
        b"8000",
        b"7999",
        b"9" * 30,
        b"65535",
        b"# x",
        b"1e3",
        b"",
        b"255",
    )
    words += [rng.choice(numbers) for _ in range(3)]
    return b"\n".join(words) + b"\n" + data[12 : 12 + rng.randrange(len(data))]


def _flat(mode: str, kind: str, side: int, **options: Any) -> bytes:
    return encoded(Image.new(mode, (side, side)), kind, **options)


def _many(kind: str) -> bytes:
    frames = [Image.new("L", (9, 9), number % 251) for number in range(900)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def _huge_png(depth: int, colour: int, side: int) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side * depth * (1, 1, 3, 1, 2, 1, 4)[colour] // 8 + 1)), 1)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _scans(scans: int, side: int) -> bytes:
    from test_bombs import jpeg_of_scans

    return jpeg_of_scans(scans, side)


_SIDE = 7990  # 64 million pixels are allowed
# Small files that announce, or hold, very much; the second half is just as large as is allowed.
BOMBS: tuple[Callable[[], bytes], ...] = (
    partial(_flat, "L", "PNG", 12_000),
    partial(_flat, "P", "GIF", 20_000),
    partial(_flat, "1", "TIFF", 30_000, compression="group4"),
    partial(_flat, "L", "TIFF", 20_000, compression="tiff_lzw"),
    partial(_flat, "L", "WEBP", 9000, lossless=True),
    partial(_flat, "1", "BMP", 20_000),
    partial(_flat, "L", "JPEG", 16_000),
    partial(_flat, "L", "JPEG2000", 9000),
    partial(_scans, 2000, 16),
    partial(_scans, 400, 7900),
    lambda: b"P6\n999999 999999\n255\n" + bytes(99),
    lambda: b"\xff\xd8" + b"\xff\xe1\0\2" * 50_000,
    partial(_huge_png, 1, 0, 60_000),
    partial(_scans, 90, 1000),
    partial(_scans, 20, 7000),
    partial(_many, "GIF"),
    partial(_many, "PNG"),
    partial(_many, "TIFF"),
    lambda: b"P5\n7999 7999\n65535\n" + bytes(99),
    partial(_huge_png, 16, 4, _SIDE),
    partial(_huge_png, 16, 6, _SIDE),
    partial(_huge_png, 8, 6, _SIDE),
    partial(_flat, "RGBA", "WEBP", _SIDE, lossless=True),
    partial(_flat, "F", "TIFF", _SIDE, compression="tiff_deflate"),
    partial(_flat, "CMYK", "JPEG", _SIDE, progressive=True),
    partial(_flat, "I;16", "PNG", _SIDE),
    partial(_flat, "RGB", "JPEG2000", 5000),
)


def begin(examples: dict[str, bytes], folder: Path, said: Said) -> Iterator[Any]:
    names = sorted(examples)

    def one(rng: random.Random) -> Read:
        name = rng.choice(names)
        if rng.random() < 0.01:
            return read_in_one_way(folder, name, rng.choice(BOMBS)(), rng, said)
        return read_in_one_way(folder, name, injured(name, examples[name], rng), rng, said)

    yield one


def read_in_one_way(
    folder: Path, name: str, data: bytes, rng: random.Random, said: Said, **options: Any
) -> Read:
    """By the library, by one of the server's two ways, or by a command."""
    path = folder / name
    path.write_bytes(data)
    options["frame"] = frame = rng.choice((None, None, 0, 1, 3, 10**9, -1))
    way = rng.random()
    if way < 0.55:
        source: Path | bytes = path if rng.random() < 0.5 else data
        return lambda: outcome_of_call(lambda: load_image(source, **options))
    if way < 0.75:
        return lambda: outcome_of_call(lambda: decode_image(data, Limits()))
    if way < 0.92:
        request = PictureRequest(data, name, frame, rng.choice((0, 1, 2)), options.get("window"))
        return lambda: outcome_of_call(lambda: make_picture(request, Limits()))
    if way < 0.95:
        return lambda: outcome_of_command(["ask", path, "is it?", "--device", "cpu"], said)
    row = {"id": "1", "image": name, "question": "q", "answer": "yes"}
    (folder / "records.jsonl").write_text(json.dumps(row))
    return lambda: outcome_of_command(["data", "validate", folder / "records.jsonl"], said)
