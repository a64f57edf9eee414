"""Each row of the table of pictures in docs/data-formats.md: what becomes of its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biod2c_core.data.images import load_image
from biod2c_core.data.images.pixels import MAX_SAMPLE_BYTES
from biod2c_core.errors import ImageError

RNG = np.random.default_rng(0)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def loaded(data: bytes | Path, **options: Any) -> np.ndarray:
    return np.asarray(load_image(data, **options))


def scaled(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def png(values: np.ndarray, colour: int, bits: int = 16, **chunks: bytes) -> bytes:
    """A PNG of rows of big-endian words (or of packed bits, then ``values`` are bytes)."""

    def chunk(kind: str, body: bytes) -> bytes:
        data = kind.encode() + body
        return struct.pack(">I", len(body)) + data + struct.pack(">I", zlib.crc32(data))

    height, width = values.shape[:2]
    width = width * 8 // bits if bits < 8 else width
    rows = values.astype(">u2" if bits == 16 else "u1")
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk("IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
        + b"".join(chunk(kind, body) for kind, body in chunks.items())
        + chunk("IDAT", zlib.compress(lines))
        + chunk("IEND", b"")
    )


def tiff(values: np.ndarray, order: str = "<", **changes: int | tuple[int, ...]) -> bytes:
    """A TIFF of one strip (a strip a channel, if planar); ``changes`` by tag, as t262=0."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags: dict[int, tuple[int, ...]] = {
        **{256: (width,), 257: (height,), 258: (values.dtype.itemsize * 8,) * samples},
        **{259: (1,), 262: (2 if samples > 2 else 1,), 277: (samples,), 278: (height,)},
        **{284: (1,), 339: (kind,) * samples},
    }
    for name, value in changes.items():
        tags[int(name[1:])] = value if isinstance(value, tuple) else (value,)
    if tags[284] == (2,):
        values = np.moveaxis(values, 2, 0)
    strips = list(values) if tags[284] == (2,) else [values]
    bodies = [strip.astype(strip.dtype.newbyteorder(order)).tobytes() for strip in strips]
    bodies = [zlib.compress(body) for body in bodies] if tags[259] == (8,) else bodies
    data = b"".join(bodies)
    starts = np.cumsum([8, *map(len, bodies)])[:-1]
    tags |= {273: tuple(int(start) for start in starts), 279: tuple(map(len, bodies))}
    extra, entries = b"", b""
    for tag in sorted(tags):
        packed = struct.pack(f"{order}{len(tags[tag])}I", *tags[tag])
        if len(packed) > 4:
            extra, packed = extra + packed, struct.pack(f"{order}I", 8 + len(data) + len(extra))
        entries += struct.pack(f"{order}HHI", tag, 4, len(tags[tag])) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        f"{order}I", 8 + len(data) + len(extra)
    )
    return head + data + extra + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["i1", "u2", "i2", "u4", "i4", "i8", "f2", "f4", "f8"])
def test_tiff_of_every_type_black_or_white_is_zero(code: str, order: str) -> None:
    values = (RNG.random((5, 7)) * 200 - (0 if code[0] == "u" else 100)).astype(code)
    if code == "u4":
        values[0, 0] = 2**32 - 1  # above what a signed value holds
    expected = scaled(values)
    assert np.array_equal(loaded(tiff(values, order))[..., 0], expected)
    assert np.array_equal(loaded(tiff(values, order, t262=0))[..., 0], 255 - expected)
    assert np.array_equal(loaded(tiff(values, order, t259=8))[..., 1], expected)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("code", ["u2", "i2", "f4"])
def test_tiff_colours_are_scaled_by_one_factor(code: str, planar: int) -> None:
    values = (RNG.random((5, 7, 3)) * [4000, 2000, 1000]).astype(code)
    assert np.array_equal(loaded(tiff(values, t284=planar)), scaled(values))


def test_tiff_white_is_zero_in_16_bits_and_floats() -> None:
    words = np.array([[0, 16384, 32768, 65535]], np.uint16)
    assert loaded(tiff(words, t262=0))[0, :, 0].tolist() == [255, 191, 127, 0]
    floats = np.array([[0, 0.25, 0.5, 1]], np.float32)
    assert loaded(tiff(floats, t262=0))[0, :, 0].tolist() == [255, 191, 127, 0]
    bytes_ = np.array([[0, 64, 128, 255]], np.uint8)
    assert loaded(tiff(bytes_, t262=0))[0, :, 0].tolist() == [255, 191, 127, 0]


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("code", ["uint16", "int32", "float32"])
def test_tiff_codes_and_predictors(compression: str, code: str) -> None:
    values = (RNG.random((40, 30)) * 60000).astype(code)
    for predictor in (1, 3 if code == "float32" else 2):
        if compression == "packbits" and predictor > 1:
            continue
        data = encoded(
            Image.fromarray(values), "TIFF", compression=compression, tiffinfo={317: predictor}
        )
        assert np.array_equal(loaded(data)[..., 0], scaled(values)), predictor


def test_tiff_alpha_straight_and_premultiplied_turned_and_with_further_channels() -> None:
    values = np.zeros((1, 4, 4), np.uint16)
    values[0, :, 0] = [100, 300, 200, 60000]
    values[0, :, 3] = [65535, 65535, 65535, 0]  # the last pixel cannot be seen
    straight = loaded(tiff(values, t338=2))
    assert straight[0, :, 0].tolist() == [85, 255, 170, 255]
    halves = np.array(
        [[[0] * 3 + [32768], [16384] * 3 + [32768], [32768] * 3 + [65535]]], np.uint16
    )
    multiplied = loaded(tiff(halves, t338=1))
    assert np.abs(multiplied[0, :, 0].astype(int) - [127, 255, 255]).max() <= 1
    words = (RNG.random((3, 5)) * 9000).astype(np.uint16)
    assert np.array_equal(loaded(tiff(words, t274=6))[..., 0], scaled(words)[::-1].T)
    five = RNG.integers(0, 256, (3, 5, 5), dtype=np.uint8)
    data = tiff(five, t262=1, t338=(0, 0, 0, 0))
    assert np.array_equal(loaded(data)[..., 0], five[..., 0])


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_ink_of_16_bits(order: str) -> None:
    ink = np.array([[[0, 65535, 65535, 0], [0, 0, 0, 65535]]], np.uint16)
    assert loaded(tiff(ink, order, t262=5))[0].tolist() == [[255, 0, 0], [0, 0, 0]]


def test_pages_of_different_kinds() -> None:
    first = Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    second = Image.fromarray((RNG.random((3, 5)) * 9000).astype(np.uint16))
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    assert np.array_equal(loaded(data), np.asarray(first))
    assert np.array_equal(loaded(data, frame=1)[..., 0], scaled(np.asarray(second)))
    with pytest.raises(ImageError, match="frames 0 to 1, not 2"):
        load_image(data, frame=2)


def test_png_of_16_bits() -> None:
    grey = np.array([[0, 1000, 2000, 4095]], np.uint16)
    assert loaded(png(grey, 0))[0, :, 0].tolist() == [0, 62, 125, 255]
    colours = (RNG.random((5, 7, 3)) * [4095, 2000, 1000]).astype(np.uint16)
    assert np.array_equal(loaded(png(colours, 2)), scaled(colours))
    same = np.repeat(grey[..., None], 3, axis=2)
    assert loaded(png(same, 2))[0, :, 2].tolist() == [0, 62, 125, 255]


def test_png_of_16_bits_with_alpha_or_a_transparent_colour() -> None:
    grey = np.array([[[0, 65535], [2000, 65535], [1000, 32896], [60000, 0]]], np.uint16)
    assert loaded(png(grey, 4))[0, :, 0].tolist() == [0, 255, 191, 255]
    colours = np.concatenate([np.repeat(grey[..., :1], 3, axis=2), grey[..., 1:]], axis=2)
    assert loaded(png(colours, 6))[0, :, 1].tolist() == [0, 255, 191, 255]
    key = struct.pack(">3H", 60000, 60000, 60000)
    assert loaded(png(colours[..., :3], 2, tRNS=key))[0, :, 0].tolist() == [0, 255, 128, 255]
    key = struct.pack(">H", 60000)
    assert loaded(png(grey[..., 0], 0, tRNS=key))[0, :, 0].tolist() == [0, 255, 128, 255]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_of_few_bits_with_a_transparent_grey(bits: int) -> None:
    levels = np.arange(2**bits if bits < 8 else 4)
    packed = np.packbits(
        np.unpackbits(np.resize(levels, 8).astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    )[None]
    shown = np.resize(levels, 8) * (255 // (2**bits - 1))
    assert loaded(png(packed, 0, bits))[0, :, 0].tolist() == shown.tolist()
    key = struct.pack(">H", 0)
    expected = np.where(np.resize(levels, 8) == 0, 255, shown)
    assert loaded(png(packed, 0, bits, tRNS=key))[0, :, 0].tolist() == expected.tolist()
    key = struct.pack(">H", int(levels[1]))
    expected = np.where(np.resize(levels, 8) == 1, 255, shown)
    assert loaded(png(packed, 0, bits, tRNS=key))[0, :, 0].tolist() == expected.tolist()


def test_palettes_with_transparency() -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    picture.putdata([0, 1, 2])
    for kind in ("PNG", "GIF"):
        shown = loaded(encoded(picture, kind, transparency=1))[0].tolist()
        assert shown == [[200, 0, 0], [255, 255, 255], [0, 0, 200]], kind
    shown = loaded(encoded(picture, "PNG", transparency=bytes([255, 0, 128])))[0].tolist()
    assert shown == [[200, 0, 0], [255, 255, 255], [127, 127, 227]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("ink", "colour"), [((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 0), (255, 255, 255))]
)
def test_ink(kind: str, ink: tuple[int, ...], colour: tuple[int, ...]) -> None:
    data = encoded(
        Image.new("CMYK", (16, 16), ink), kind, **({"quality": 98} if kind == "JPEG" else {})
    )
    assert np.abs(loaded(data)[8, 8].astype(int) - colour).max() <= 4


def test_few_bits_in_tiff_and_ppm_of_many() -> None:
    bits = Image.fromarray(RNG.integers(0, 2, (5, 9)).astype(bool))
    for kind in ("PNG", "TIFF", "PPM", "BMP"):
        assert np.array_equal(loaded(encoded(bits, kind))[..., 0], np.asarray(bits) * 255), kind
    assert np.array_equal(
        loaded(encoded(bits, "TIFF", compression="group4"))[..., 0], np.asarray(bits) * 255
    )
    colours = (RNG.random((5, 7, 3)) * 4095).astype(">u2")
    ppm = b"P6 7 5 65535\n" + colours.tobytes()
    assert np.array_equal(loaded(ppm), scaled(colours))
    pgm = b"P5 7 5 65535\n" + colours[..., 0].tobytes()
    assert np.array_equal(loaded(pgm)[..., 0], scaled(colours[..., 0]))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_show_the_first_frame_or_the_one_asked_for(kind: str) -> None:
    shades = [(10, 0, 0), (90, 0, 0), (200, 0, 0)]
    frames = [Image.new("RGB", (8, 8), shade) for shade in shades]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert loaded(data)[0, 0].tolist() == [10, 0, 0]
    assert loaded(data, frame=2)[0, 0].tolist() == [200, 0, 0]
    with pytest.raises(ImageError, match="frames 0 to 2, not 3"):
        load_image(data, frame=3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_every_kind(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = Image.fromarray(np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 16).reshape(24, 16))
    options = {"lossless": True} if kind == "WEBP" else {}
    turned = loaded(encoded(picture.convert("RGB"), kind, exif=exif, **options))[..., 0]
    assert turned.shape == (16, 24)
    assert np.abs(turned.astype(int) - np.rot90(np.asarray(picture))).max() <= 6


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"NRRD0004\n# a volume\n", r"NRRD volume .* Convert it to NIfTI"),
        (struct.pack(">7i", 1, 256, 256, 256, 1, 0, 0) + bytes(300), "FreeSurfer .*mri_convert"),
        (b"ObjectType = Image\nNDims = 3\n", "MetaImage"),
        (b"\0\0\0\x1cftypheic" + bytes(20), "HEIC"),
        (b"8BPS\0\1" + bytes(20), "Photoshop"),
        (b"%PDF-1.7\n" + bytes(20), "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"PK\x03\x04" + bytes(20), "an archive"),
        (struct.pack("<i", 348) + bytes(34) + b"r" + bytes(309), "Analyze"),
        (bytes(344) + b"ni1\0" + bytes(4), "NIfTI pair"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_not_read_is_named(data: bytes, said: str, packed: bool) -> None:
    import gzip

    with pytest.raises(ImageError, match=f"(?s){said}"):
        load_image(gzip.compress(data) if packed else data)


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.mgz", "MGH"), ("a.nrrd", "NRRD"), ("a.mha", "MetaImage"), ("a.img.gz", "a pair")],
)
def test_what_is_not_read_and_not_told_from_content_is_named(
    name: str, said: str, tmp_path: Path
) -> None:
    import gzip

    for data in (b"what could this be", gzip.compress(b"what could this be")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=rf"not read \({said}|not read \(FreeSurfer's {said}"):
            load_image(tmp_path / name)
    (tmp_path / name).write_bytes(encoded(Image.new("L", (4, 4), 7)))
    assert loaded(tmp_path / name)[0, 0, 0] == 7


def test_messages_list_all_that_is_read() -> None:
    with pytest.raises(ImageError, match=r"JPEG, PNG, .*TIFF.*, DICOM, NIfTI\."):
        load_image(b"hello, I am no picture")


@pytest.mark.parametrize("option", ["axis", "slice_index", "window"])
def test_options_that_mean_nothing_are_refused(option: str) -> None:
    value = (40.0, 400.0) if option == "window" else 1
    word = option.removesuffix("_index")
    with pytest.raises(ImageError, match=f"has no {word}. Leave out --{word}"):
        load_image(encoded(Image.new("L", (4, 4))), **{option: value})


def test_jpeg_in_jpeg_and_lab_are_no_surprise() -> None:
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (10, 200)]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert abs(int(loaded(data, frame=1)[0, 0, 0]) - 200) <= 3
    with pytest.raises(ImageError, match="colour space LAB"):
        load_image(encoded(Image.new("LAB", (4, 4)), "TIFF"))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_deep_colour_of_too_many_bytes_is_refused_by_its_header(colour: int, channels: int) -> None:
    """Its conversion takes some bytes for each byte: gigabytes at the limit of pixels."""
    width = MAX_SAMPLE_BYTES // (2 * channels * 1000) + 1
    data = bytearray(png(np.zeros((1, 1, channels), np.uint16), colour))
    data[16:24] = struct.pack(">II", width, 1000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ImageError, match="over 256 MiB of samples"):
        load_image(bytes(data), max_pixels=10**9)


def test_a_damaged_deep_tiff_is_one_line_and_libtiff_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    buffer = io.BytesIO()
    grey = Image.fromarray(RNG.integers(0, 60_000, (64, 64)).astype(np.uint16))
    grey.save(buffer, "TIFF", compression="tiff_adobe_deflate")
    data = bytearray(buffer.getvalue())
    assert loaded(bytes(data)).shape == (64, 64, 3)
    start = Image.open(buffer).tag_v2[273][0]
    data[start : start + 200] = b"\xff" * 200
    with pytest.raises(ImageError, match="damaged or truncated"):
        load_image(bytes(data))
    assert capfd.readouterr() == ("", "")
