"""DICOM and NIfTI: elements and header fields falsified, deflated and run-length bombs, series."""

from __future__ import annotations

import gzip
import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from children import Read, Said, outcome_of_call, outcome_of_command
from mutations import NUMBERS, mutated, renumber
from PIL import Image
from valid_files import encoded

from biod2c_core.data.images import load_image
from kinds.pictures import read_in_one_way

_NIFTI_FIELDS = {
    0: "i", 40: "8h", 56: "3f", 68: "h", 70: "h", 72: "h", 74: "h", 76: "8f", 108: "f", 112: "f", 116: "f",
    120: "h", 123: "b", 124: "f", 128: "f", 252: "h", 254: "h", 256: "6f", 280: "12f", 344: "4b", 348: "4b",
}  # fmt: skip
_TEXTS = ("", "1e400", "nan", "-5", "9" * 40, "x", "1\\2\\3", "\x1b[31m", "../../x", "0", "65536")
_KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTFunction"),
    *(
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "SmallestImagePixelValue",
        "PresentationLUTShape",
    ),
    *("RedPaletteColorLookupTableDescriptor", "SeriesInstanceUID", "ImagePositionPatient"),
    *("ImageOrientationPatient", "InstanceNumber", "SpecificCharacterSet", "LUTDescriptor"),
)


def prepare(folder: Path) -> dict[str, bytes]:
    """Small valid files of each kind, by a name with their suffix."""
    from medical_files import dicom, group, nifti, palette, table
    from test_bombs import deflated, encapsulated, lossless_jpeg

    rng = np.random.default_rng(0)
    volume = rng.integers(-500, 500, (5, 6, 7)).astype(np.int16)
    words = rng.integers(0, 4000, (12, 16)).astype(np.uint16)
    colours = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    own = group(PixelValueTransformationSequence={"RescaleIntercept": "5", "RescaleSlope": "2"})
    frames = rng.integers(0, 900, (3, 12, 16)).astype(np.uint16)
    grey = Image.fromarray(colours[..., 0]).resize((16, 16))
    tables = {name: np.arange(256, dtype=np.uint16) << 8 for name in ("Red", "Green", "Blue")}
    run_length = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0\x81\0"
    return {
        "a.dcm": dicom(words),
        "b.dcm": dicom(words, WindowCenter=40, WindowWidth=400, RescaleSlope="2"),
        "colour.dcm": dicom(colours),
        "palette.dcm": dicom(colours[..., 0], **palette(tables, 0, 16)),
        "lut.dcm": dicom(words, VOILUTSequence=[table([256, 0, 8], bytes(range(256)))]),
        "enhanced.dcm": dicom(frames, PerFrameFunctionalGroupsSequence=[own] * 3),
        "deflated.dcm": deflated(),
        "jpeg.dcm": encapsulated(encoded(grey, "JPEG"), "1.2.840.10008.1.2.4.50"),
        "j2k.dcm": encapsulated(encoded(grey, "JPEG2000", no_jp2=True), "1.2.840.10008.1.2.4.90"),
        "lossless.dcm": encapsulated(lossless_jpeg(8), "1.2.840.10008.1.2.4.70"),
        "rle.dcm": encapsulated(run_length, "1.2.840.10008.1.2.5"),
        "a.nii": nifti(volume),
        "a.nii.gz": nifti(volume, packed=True),
        "two.nii": nifti(volume, version=2, order=">"),
        "float.nii": nifti(volume.astype(np.float64), cal_min=-100, cal_max=300),
        "time.nii.gz": nifti(np.stack([volume] * 3, -1), packed=True),
    }


def injured(name: str, data: bytes, rng: random.Random) -> bytes:
    """Damage a file as its format allows, or any bytes."""
    if name.endswith(".gz"):
        inner = injured(name[:-3], gzip.decompress(data), rng)
        packed = gzip.compress(inner, 1)
        if rng.random() < 0.1:
            packed += gzip.compress(bytes(rng.choice((10, 1 << 26))), 9)  # a further member
        return mutated(packed, rng) if rng.random() < 0.1 else packed
    if rng.random() < 0.35:
        return mutated(data, rng)
    return _nifti(data, rng) if name.endswith(".nii") else _dicom(data, rng)


def _nifti(data: bytes, rng: random.Random) -> bytes:
    body = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if body[1:4] == b"\x5c\x01\0" or rng.random() < 0.3 or len(body) < 352:
            renumber(body, rng, 540)
            continue
        at = rng.choice(sorted(_NIFTI_FIELDS))
        form = _NIFTI_FIELDS[at]
        count = int(form[:-1] or 1)
        at += struct.calcsize(form[-1]) * rng.randrange(count)
        if form[-1] == "f":
            value = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38, 1e-38, 352.0, 5e7))
            struct.pack_into("<f", body, at, value)
        else:
            size = struct.calcsize(form[-1])
            body[at : at + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, "little")
    if rng.random() < 0.1:
        size = rng.choice((16, 1 << 20, 200 << 20))
        struct.pack_into("<f", body, 108, float(352 + size))
        body[348:352] = b"\1\0\0\0"
        body[352:352] = struct.pack("<ii", size, rng.randrange(50)) + bytes(min(size, 64 << 20))
    return bytes(body)


def _dicom(data: bytes, rng: random.Random) -> bytes:
    """Elements of other values and kinds, as pydicom writes them without asking."""
    import pydicom
    from pydicom.dataset import Dataset

    with pydicom.config.disable_value_validation():
        found = pydicom.dcmread(io.BytesIO(data), force=True)
        for _ in range(rng.randint(1, 3)):
            try:
                _change(found, rng, Dataset)
            except (ValueError, TypeError, OverflowError, AttributeError, KeyError):
                continue  # pydicom cannot write that
        buffer = io.BytesIO()
        try:
            pydicom.dcmwrite(buffer, found)
        except Exception:  # nor that
            return mutated(data, rng)
    return buffer.getvalue()


def _change(found: Any, rng: random.Random, dataset: Any) -> None:
    kind = rng.randrange(6)
    keyword = rng.choice(_KEYWORDS)
    if kind == 0:
        found.file_meta.TransferSyntaxUID = rng.choice(
            (
                "1.2.840.10008.1.2",
                "1.2.840.10008.1.2.2",
                "1.2.840.10008.1.2.1.99",
                "1.2.840.10008.1.2.5",
                *tuple(
                    f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 100, 201)
                ),
            )
        )
    elif kind == 1:
        inner = dataset()
        for _ in range(rng.choice((1, 20, 60))):
            outer = dataset()
            outer.VOILUTSequence = [inner]
            inner = outer
        found.SharedFunctionalGroupsSequence = [inner]
    elif kind == 2 and "PixelData" in found:
        pixels = bytes(found.PixelData)
        found.PixelData = rng.choice((b"", pixels[:9], pixels * 50, mutated(pixels, rng) * 2))
    elif kind == 3 and keyword in found:
        del found[keyword]
    elif kind == 4:
        setattr(found, keyword, rng.choice(_TEXTS))
    else:
        numbers = [rng.choice(NUMBERS) % 65536 for _ in range(rng.choice((1, 1, 3)))]
        setattr(found, keyword, numbers if len(numbers) > 1 else numbers[0])


def _packed_bomb(rng: random.Random) -> tuple[str, bytes]:
    """What inflates to hundreds of megabytes, or is just as large as is allowed."""
    from medical_files import nifti
    from test_bombs import deflated

    kind = rng.randrange(4)
    if kind == 0:
        return "bomb.dcm", deflated(rng.choice((0, 5000)), rng.choice((1, 200, 400)) << 20)
    if kind == 1:
        head = bytearray(nifti(np.zeros((8, 8, 8), np.int16)))
        struct.pack_into(
            "<8h", head, 40, 3, *rng.choice(((1200,) * 3, (7900, 7900, 3))), 1, 1, 1, 1
        )
        return "bomb.nii.gz", gzip.compress(bytes(head) + bytes(300 << 20), 1)
    if kind == 2:
        head = bytearray(nifti(np.zeros((8, 8, 8), np.int16)))[:352]
        struct.pack_into("<f", head, 108, float(352 + (200 << 20)))
        body = struct.pack("<ii", 200 << 20, 0) + bytes(200 << 20)
        return "bomb.nii.gz", gzip.compress(bytes(head[:348]) + b"\1\0\0\0" + body + bytes(512), 1)
    values = np.zeros((7900, 7900, 2), rng.choice((np.float64, np.uint8, np.complex64)))
    return "bomb.nii", nifti(values)


def begin(examples: dict[str, bytes], folder: Path, said: Said) -> Iterator[Any]:
    names = sorted(examples)

    def one(rng: random.Random) -> Read:
        if rng.random() < 0.005:
            name, data = _packed_bomb(rng)
        else:
            name = rng.choice(names)
            data = injured(name, examples[name], rng)
        if rng.random() < 0.1:
            return _as_series(folder, name, examples, data, rng, said)
        options: dict[str, Any] = {}
        if rng.random() < 0.3:
            options["window"] = rng.choice(
                ((40, 400), (0, 1e-300), (float("nan"), 1), (1e308, 1e308))
            )
        if name.endswith((".nii", ".gz")) and rng.random() < 0.5:
            options["axis"] = rng.choice((0, 1, 2))
            options["slice_index"] = rng.choice((None, 0, 4, -1, 10**9))
        return read_in_one_way(folder, name, data, rng, said, **options)

    yield one


def _as_series(
    folder: Path, name: str, examples: dict[str, bytes], data: bytes, rng: random.Random, said: Said
) -> Read:
    place = folder / "series"
    place.mkdir(exist_ok=True)
    for each in place.iterdir():
        each.unlink()
    for number in range(3):
        (place / f"{number}.dcm").write_bytes(examples["a.dcm"])
    (place / f"z{name}").write_bytes(data)
    if rng.random() < 0.3:
        target = rng.choice(("/dev/zero", "/etc/passwd", str(place), "nothing"))
        (place / "y.dcm").symlink_to(target)
    if rng.random() < 0.2:
        return lambda: outcome_of_command(["ask", place, "is it?", "--device", "cpu"], said)
    return lambda: outcome_of_call(lambda: load_image(place))
