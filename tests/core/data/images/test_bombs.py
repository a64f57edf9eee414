"""Small files that would take gigabytes or minutes: refused before they are decoded."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from medical_files import dicom
from PIL import Image

from biod2c_core.data.images import bombs, files, load_image, pictures
from biod2c_core.errors import ImageError


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_of_scans(scans: int, side: int = 16) -> bytes:
    """A legal progressive JPEG: one DC scan and as many empty AC scans as asked for."""
    blocks = ((side + 7) // 8) ** 2
    head = segment(0xDB, b"\0" + bytes([1] * 64))
    head += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    head += segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")
    head += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes((blocks + 7) // 8)
    run = "".join(["0" + "0" * 14] * -(-blocks // (1 << 14)))
    bits = (run + "1" * (-len(run) % 8)).encode()
    coded = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    again = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + coded.replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + head + first + again * scans + b"\xff\xd9"


def test_scans_are_counted_generously() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True)
    assert load_image(buffer.getvalue()).size == (64, 64)
    assert load_image(jpeg_of_scans(60)).size == (16, 16)
    with pytest.raises(ImageError, match="a JPEG of over 100 scans"):
        load_image(jpeg_of_scans(2000))
    with pytest.raises(ImageError, match="a JPEG of over 20 scans"):
        load_image(jpeg_of_scans(30, side=7900))


def test_scans_behind_another_picture_or_inside_another_file() -> None:
    plain = io.BytesIO()
    Image.new("L", (16, 16)).save(plain, "JPEG")
    # What follows the end of a JPEG is not decoded, and phones put videos there.
    assert load_image(plain.getvalue() + b"\xff\xda" * 500).size == (16, 16)
    with pytest.raises(ImageError, match="over 100 scans"):
        bombs.check_jpeg_strips(jpeg_of_scans(900), 2, (16, 16), "a.tif")
    scan = encapsulated(jpeg_of_scans(2000), "1.2.840.10008.1.2.4.50")
    with pytest.raises(ImageError, match="over 100 scans"):
        load_image(scan)


def test_endless_segments_are_refused() -> None:
    with pytest.raises(ImageError, match="JPEG segments"):
        load_image(b"\xff\xd8" + b"\xff\xe1\0\2" * 50_000)


def encapsulated(frame: bytes, syntax: str, **tags: int) -> bytes:
    import pydicom
    from pydicom.encaps import encapsulate

    data = pydicom.dcmread(io.BytesIO(dicom(np.zeros((16, 16), np.uint8), **tags)))
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data)
    return buffer.getvalue()


def lossless_jpeg(precision: int, side: int = 16) -> bytes:
    """One grey of half the range: every difference is 0, a bit each."""
    head = segment(0xC3, struct.pack(">BHHB", precision, side, side, 1) + b"\x01\x11\x00")
    head += segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")
    scan = segment(0xDA, b"\x01\x01\x00\x01\x00\x00")
    return b"\xff\xd8" + head + scan + bytes(side * side // 8) + b"\xff\xd9"


def test_lossless_jpeg_is_decoded_in_a_process_of_its_own() -> None:
    """GDCM ends the process on some damaged frames: it must not be this one."""
    pytest.importorskip("gdcm", reason="the extra 'medical' is not installed")
    frame = lossless_jpeg(8)
    whole = load_image(
        encapsulated(frame, "1.2.840.10008.1.2.4.70", WindowCenter=128, WindowWidth=9)
    )
    assert whole.getpixel((5, 5)) == (143, 143, 143)  # (128 - 127.5) / 8 + 0.5
    for damaged in (frame[:30], frame[:25] + b"\xff" * 9 + frame[34:]):
        with pytest.raises(ImageError, match="pixels cannot be decoded"):
            load_image(encapsulated(damaged, "1.2.840.10008.1.2.4.70"))


def test_a_frame_larger_than_its_header_says() -> None:
    for kind, syntax in (
        ("JPEG", "1.2.840.10008.1.2.4.50"),
        ("JPEG2000", "1.2.840.10008.1.2.4.90"),
    ):
        for side, fits in ((16, True), (64, False)):
            buffer = io.BytesIO()
            options = {"no_jp2": True} if kind == "JPEG2000" else {}
            Image.new("L", (side, side), 9).save(buffer, kind, **options)
            data = encapsulated(buffer.getvalue(), syntax)
            if fits:
                assert load_image(data).size == (16, 16)
                continue
            with pytest.raises(ImageError, match=r"picture is 64 x 64, its header says 16 x 16"):
                load_image(data)


def test_a_run_length_code_of_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bombs, "_RUN_LENGTH_SURELY_SMALL", 1000)
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 5000
    with pytest.raises(ImageError, match="run-length code is far too long"):
        load_image(encapsulated(frame, "1.2.840.10008.1.2.5"))
    fits = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0\x81\0"
    assert load_image(encapsulated(fits, "1.2.840.10008.1.2.5")).size == (16, 16)


def deflated(padding: int = 0, extra: int = 0) -> bytes:
    """A deflated file, its transfer syntax behind ``padding`` bytes of header."""
    plain = dicom()
    start = 132 + 12 + struct.unpack_from("<I", plain, 140)[0]
    uid = b"1.2.840.10008.1.2.1.99"
    meta = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2 + padding) + b"\0\1" + bytes(padding)
    meta += struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    meta = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta
    private = struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, extra) + bytes(extra) if extra else b""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return bytes(128) + b"DICM" + meta + stream.compress(private + plain[start:]) + stream.flush()


def test_deflated_dicom_is_read_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for padding in (0, 5000):
        assert load_image(deflated(padding)).tobytes() == load_image(dicom()).tobytes()
    monkeypatch.setattr(bombs, "MAX_INFLATED_BYTES", 1 << 20)
    with pytest.raises(ImageError, match="inflates to over 1 MiB"):
        load_image(deflated(5000, 3 << 20))
    with pytest.raises(ImageError, match="damaged or cut off"):
        bombs.inflate(b"\xff" * 99, "a.dcm")


def test_tags_that_point_to_the_same_bytes_and_directories_in_a_ring() -> None:
    body = bytes(64)
    entries = b"".join(struct.pack("<HHII", tag, 7, 200 << 20, 8) for tag in range(60_000, 60_003))
    directory = struct.pack("<H", 3) + entries
    data = struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4)
    with pytest.raises(ImageError, match="tags of absurd length"):
        load_image(data)
    ring = struct.pack("<2sHIHI", b"II", 42, 8, 0, 8)
    with pytest.raises(ImageError, match="frames 0 to 0, not 4"):
        load_image(ring, frame=4)


def test_a_late_frame_of_a_large_animation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("L", (64, 64), shade) for shade in range(0, 200, 20)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(pictures, "MAX_ANIMATED_PIXELS", 5 * 64 * 64)
    assert load_image(buffer.getvalue(), frame=5).getpixel((0, 0)) == (100, 100, 100)
    with pytest.raises(ImageError, match="is made from 6 others"):
        load_image(buffer.getvalue(), frame=6)


def test_reading_ends_when_its_time_is_used_up(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(100))
    with path.open("rb") as file:
        timed = files.TimedFile(file, "a.bin", seconds=0.01)
        assert timed.read(10) == bytes(10)
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        with pytest.raises(ImageError, match=r"a\.bin takes over 0\.01 s to decode"):
            timed.read(10)


@pytest.mark.parametrize("kind", ["strips", "tiles"])
def test_tiff_strips_that_all_name_the_same_bytes(kind: str) -> None:
    """A file of 100 kB: 20,000 strips of 50 kB each would be read, a gigabyte."""
    count, length = 20_000, 50_000
    shape = {322: (16,), 323: (16,)} if kind == "tiles" else {278: (1,)}
    where, how_long = (324, 325) if kind == "tiles" else (273, 279)
    size = (16, 16 * count) if kind == "tiles" else (16, count)
    tags = {256: size[:1], 257: size[1:], 258: (16,), 259: (1,), 262: (1,), 277: (1,), 339: (1,)}
    tags |= {**shape, where: (8,) * count, how_long: (length,) * count}
    data, entries = bytes(length), b""
    for tag in sorted(tags):
        packed = struct.pack(f"<{len(tags[tag])}I", *tags[tag])
        if len(packed) > 4:
            data, packed = data + packed, struct.pack("<I", 8 + len(data))
        entries += struct.pack("<HHI", tag, 4, len(tags[tag])) + packed
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    file = head + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    begun = time.process_time()
    with pytest.raises(ImageError, match="strips that are too long together"):
        load_image(file)
    assert time.process_time() - begun < 2
