"""Decoding: every kind of pixel becomes RGB, every unusable file one ImageError."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from biod2c_core.data.images import load_image, resolve_image
from biod2c_core.data.images.pixels import scale_to_bytes
from biod2c_core.errors import ImageError


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def pixel(picture: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert picture.mode == "RGB"
    return picture.getpixel((x, y))


def test_rgb_is_kept_exactly_from_path_bytes_and_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(values))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        assert np.array_equal(np.asarray(load_image(source)), values)
    assert np.array_equal(np.asarray(load_image("a.png", root=tmp_path)), values)


def test_grey_and_palette_and_bilevel() -> None:
    assert pixel(load_image(encoded(Image.new("L", (2, 2), 77)))) == (77, 77, 77)
    palette = Image.new("RGB", (2, 2), (10, 200, 30)).quantize(4)
    assert pixel(load_image(encoded(palette))) == (10, 200, 30)
    assert pixel(load_image(encoded(Image.new("1", (2, 2), 1)))) == (255, 255, 255)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint16", "PNG"), ("int32", "TIFF"), ("float32", "TIFF")]
)
def test_wide_pixels_are_scaled_by_their_own_range(dtype: str, kind: str) -> None:
    values = np.array([[1000, 1500, 3000]], dtype=dtype)
    picture = load_image(encoded(Image.fromarray(values), kind))
    assert [pixel(picture, x)[0] for x in range(3)] == [0, 64, 255]  # 500/2000*255 = 63.75


def test_scaling_survives_constants_and_non_finite_values() -> None:
    assert scale_to_bytes(np.full((2, 2), 9, np.uint16)).max() == 0
    assert scale_to_bytes(np.full((2, 2), np.nan)).max() == 0
    values = np.array([np.nan, -np.inf, 0.0, 10.0, np.inf], np.float32)
    assert scale_to_bytes(values).tolist() == [0, 0, 0, 255, 255]
    assert scale_to_bytes(np.array([2**30, 2**30 + 255], np.int32)).tolist() == [0, 255]


def test_cmyk_becomes_rgb() -> None:
    picture = load_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = pixel(picture, 4, 4)
    assert red > 240
    assert green < 15
    assert blue < 15


def test_alpha_is_composed_on_white() -> None:
    picture = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    picture.putpixel((1, 0), (200, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 128))
    loaded = load_image(encoded(picture))
    assert pixel(loaded, 0) == (200, 0, 0)
    assert pixel(loaded, 1) == (255, 255, 255)
    assert abs(pixel(loaded, 2)[0] - 127) <= 1
    assert pixel(load_image(encoded(Image.new("LA", (2, 2), (0, 0))))) == (255, 255, 255)
    colour_key = Image.new("RGB", (2, 2), (1, 2, 3))
    assert pixel(load_image(encoded(colour_key, transparency=(1, 2, 3)))) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation: int) -> None:
    from PIL import ImageOps

    values = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(values), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored() -> None:
    data = encoded(
        Image.new("RGB", (4, 4), (9, 9, 9)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"
    )
    assert load_image(data).size == (4, 4)


def test_frames_are_chosen_and_checked() -> None:
    frames = [Image.new("RGB", (2, 2), (shade, 0, 0)) for shade in (10, 20, 30)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert pixel(load_image(data))[0] == 10
    assert pixel(load_image(data, frame=2))[0] == 30
    with pytest.raises(ImageError, match="frames 0 to 2, not 3"):
        load_image(data, frame=3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP"])
def test_a_truncated_file_is_an_error(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError, match=r"truncated|not an image"):
        load_image(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_no_other_library_makes_truncated_files_whole(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some set Pillow's switch when they are imported; it stays as they want it."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError, match="truncated"):
        load_image(data[: len(data) // 2])
    assert load_image(data).size == (64, 64)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_bomb_is_refused_from_its_header_without_allocating() -> None:
    code = (
        "import re; from pathlib import Path; from biod2c_core.data.images import load_image\n"
        "from biod2c_core.errors import ImageError\n"
        f"data = {png_header(100_000, 100_000)!r}\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\n"
        "try: load_image(data)\n"
        "except ImageError as error: print(error)\n"
        "print((peak() - before) // 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, grown_mb = run.stdout.strip().splitlines()
    assert "10000000000 pixels" in message
    assert int(grown_mb) < 20


def test_a_header_between_the_limits_names_both_numbers() -> None:
    with pytest.raises(ImageError, match=r"9,000 x 9,000 pixels, over the limit of 64,000,000"):
        load_image(png_header(9000, 9000))
    with pytest.raises(ImageError, match=r"over the limit of 10\. "):
        load_image(encoded(Image.new("L", (4, 4))), max_pixels=10)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello, I am no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    cases = {
        "text.png": "not an image",
        "empty.png": "is empty",
        "eps.png": "not an image",
        "missing.png": "not found",
        ".": "is a folder",
        "a\0b": "cannot read",
        "x" * 5000: "cannot read",
    }
    for name, message in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            load_image(name, root=tmp_path)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
        assert caught.value.remedy


def test_a_device_and_a_long_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no regular file"):
        load_image("/dev/zero")
    path = tmp_path / "long.png"
    path.write_bytes(bytes(100))
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="over the limit of 99"):
            load_image(source, max_bytes=99)


@pytest.mark.parametrize(
    "name", ["../a.png", "x/../../a.png", "/etc/passwd", "..", "../rootless/a.png"]
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ImageError, match="outside the image root"):
        resolve_image(root, name)
    assert resolve_image(root, name, allow_outside=True).is_absolute()


def test_paths_inside_the_root_are_accepted(tmp_path: Path) -> None:
    assert resolve_image(tmp_path, "a/../b.png") == tmp_path / "b.png"
    assert resolve_image(tmp_path, tmp_path / "b.png") == tmp_path / "b.png"
    assert resolve_image("/", "etc/x") == Path("/etc/x")


@pytest.mark.real_data
def test_real_images_decode(data_root: Path) -> None:
    for path in sorted((data_root / "vqa_rad" / "images").iterdir())[:20]:
        assert load_image(path).mode == "RGB"
