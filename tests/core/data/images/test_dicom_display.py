"""The order of the standard, each step of it, and values written as they should not be."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from medical_files import RAMP, dicom, grey, group, palette, table

from biod2c_core.data.images import load_image
from biod2c_core.errors import ImageError

HU = {"RescaleIntercept": "-1024", "RescaleSlope": "1"}
LUNG = {"WindowCenter": "40", "WindowWidth": "400"}
SCAN = np.array([[0, 500, 1000, 2000]], np.uint16)


def row(values: list[int], dtype: str = "u2", **tags: Any) -> list[int]:
    return grey(dicom(np.array([values], dtype), **tags))[0].tolist()


def linear(values: Any, centre: float, width: float) -> list[int]:
    share = np.clip((np.asarray(values, float) - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.rint(share * 255).astype(int).tolist()


@pytest.mark.parametrize("where", ["shared", "per-frame", "both", "top"])
def test_functional_groups_are_the_frame_s_own(where: str) -> None:
    right = group(PixelValueTransformationSequence=HU, FrameVOILUTSequence=LUNG)
    wrong = group(
        PixelValueTransformationSequence={"RescaleIntercept": "9", "RescaleSlope": "3"},
        FrameVOILUTSequence={"WindowCenter": "1", "WindowWidth": "2", "VOILUTFunction": "SIGMOID"},
    )
    tags: dict[str, Any] = {"WindowCenter": "7", "WindowWidth": "9", "RescaleIntercept": "7"}
    if where == "top":
        tags = HU | LUNG
    elif where == "shared":
        tags |= {"SharedFunctionalGroupsSequence": [right]}
    else:
        tags |= {"SharedFunctionalGroupsSequence": [wrong]} if where == "both" else {}
        tags |= {"PerFrameFunctionalGroupsSequence": [wrong, right]}
    enhanced = dicom(np.stack([SCAN[:, ::-1], SCAN]), **tags)
    assert grey(enhanced, frame=1)[0].tolist() == linear(SCAN[0] - 1024.0, 40, 400)
    assert grey(enhanced, frame=1, window=(0.0, 900.0))[0].tolist() == linear(
        SCAN[0] - 1024.0, 0, 900
    )


def test_each_frame_has_its_own_rescale() -> None:
    groups = [
        group(PixelValueTransformationSequence={"RescaleIntercept": str(at), "RescaleSlope": "1"})
        for at in (0, -1000)
    ]
    data = dicom(np.stack([SCAN, SCAN]), PerFrameFunctionalGroupsSequence=groups, **LUNG)
    assert grey(data)[0].tolist() == linear(SCAN[0], 40, 400)
    assert grey(data, frame=1)[0].tolist() == linear(SCAN[0] - 1000.0, 40, 400)


@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE"])
@pytest.mark.parametrize("space", ["MONOCHROME1", "MONOCHROME2"])
def test_what_is_shown_white_is_said_once(space: str, shape: str | None) -> None:
    """A presentation shape stands above the photometric interpretation, as in DCMTK."""
    tags = {"PhotometricInterpretation": space} | ({"PresentationLUTShape": shape} if shape else {})
    turned = shape == "INVERSE" or (shape is None and space == "MONOCHROME1")
    assert row([0, 100, 200], **tags) == ([255, 128, 0] if turned else [0, 127, 255])


@pytest.mark.parametrize(
    ("values", "dtype", "tags", "shown"),
    [
        ([63, 100, 200, 300, 63], "u2", {"PixelPaddingValue": 63}, [0, 0, 127, 255, 0]),
        (
            [-2000, -1500, -1024, 0, 1000],
            "i2",
            {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500},
            [0, 0, 0, 129, 255],
        ),
        (
            [-1500, -2000, -1024, 1000],
            "i2",
            {"PixelPaddingValue": -1500, "PixelPaddingRangeLimit": -2000},
            [0, 0, 0, 255],
        ),
        ([65535, 100, 300], "u2", {"PixelPaddingValue": 65535}, [0, 0, 255]),
        ([4000, 100, 300], "u2", {"PixelPaddingValue": 4000, **LUNG}, [0, 204, 255]),
    ],
)
def test_padding_is_black_and_not_part_of_the_range(
    values: list[int], dtype: str, tags: dict[str, Any], shown: list[int]
) -> None:
    if "WindowWidth" in tags:
        shown = [0, *linear([100, 300], 40, 400)]
    assert row(values, dtype, **tags) == shown


def test_padding_of_a_negative_picture() -> None:
    tags = {"PixelPaddingValue": 63, "PhotometricInterpretation": "MONOCHROME1"}
    assert row([63, 100, 200, 300, 63], **tags) == [0, 255, 128, 0, 0]


@pytest.mark.parametrize("kind", ["US", "SS"])
@pytest.mark.parametrize(("dtype", "pad"), [("i2", -2000), ("u2", 63536), ("u2", 12), ("i2", 12)])
def test_padding_in_the_other_sign(dtype: str, pad: int, kind: str) -> None:
    """-2000 and 63536 are the same word: VR US and SS are often taken for one another."""
    word = struct.pack("<H", pad % 65536)
    data = dicom(np.array([[pad, 100, 200, 300]], dtype), PixelPaddingValue=77)
    kinds = {b"US", b"SS"}
    (start,) = {data.find(b"\x28\0\x20\x01" + each) for each in kinds} - {-1}
    data = (
        data[: start + 4] + kind.encode() + data[start + 6 : start + 8] + word + data[start + 10 :]
    )
    assert grey(data)[0].tolist() == [0, 0, 127, 255]


@pytest.mark.parametrize("sign", [0, 1])
def test_unused_bits_and_a_high_bit_that_is_not_the_last(sign: int) -> None:
    values = np.array([[-800, 0, 400, 800]] if sign else [[0, 800, 1600, 4000]])
    dtype = "i2" if sign else "u2"
    expected = linear(values[0], 300, 1000)
    window = {"WindowCenter": "300", "WindowWidth": "1000", "BitsStored": 12}
    plain = (values & 0x0FFF | 0x5000).astype("u2").view(dtype)  # something in the unused bits
    assert grey(dicom(plain, **window, HighBit=11))[0].tolist() == expected
    shifted = (values << 4 | 5).astype("u2").view(dtype)
    assert grey(dicom(shifted, **window, HighBit=15))[0].tolist() == expected


@pytest.mark.parametrize(
    ("centre", "width", "function", "shown"),
    [
        ("1000", "0", None, [0, 62, 125, 255]),
        ("1000", "0.5", None, [0, 62, 125, 255]),
        ("1000", "-400", "LINEAR", [0, 62, 125, 255]),
        ("1000", "0", "SIGMOID", [0, 62, 125, 255]),
        ("1000", "0.5", "LINEAR_EXACT", [0, 128, 255, 255]),
        ("1000", "", None, [0, 62, 125, 255]),
        ("1000", "1", None, [0, 255, 255, 255]),
        ("1000\\2000", "2000\\1", None, None),
        ("1000", "2000", "NO_SUCH", None),
    ],
)
def test_windows_that_are_none_and_several(
    centre: str, width: str, function: str | None, shown: list[int] | None
) -> None:
    values = [0, 1000, 2000, 4095]
    tags = {"WindowCenter": centre.split("\\"), "WindowWidth": width.split("\\") if width else None}
    tags |= {"VOILUTFunction": function} if function else {}
    assert row(values, **tags) == (shown or linear(values, 1000, 2000))


CURVE = np.arange(4096) ** 2 // 4095  # 12 bits to 12 bits


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("packing", ["words", "numbers", "bytes"])
def test_modality_and_voi_tables(bits: int, packing: str) -> None:
    curve = CURVE << 4 if bits == 16 else CURVE >> (12 - bits)
    if packing == "bytes" and bits > 8:
        return
    data: bytes | list[int] = curve.astype("u1" if packing == "bytes" else "<u2").tobytes()
    data = curve.tolist() if packing == "numbers" else data
    values = [0, 1000, 3000, 4095]
    lut = table([4096, 0, bits], data)
    expected = np.rint(curve[values] * (255 / (2**bits - 1))).astype(int).tolist()
    assert row(values, VOILUTSequence=[lut]) == expected
    window = {"WindowCenter": "100", "WindowWidth": "300"}
    shown = row(values, ModalityLUTSequence=[lut], **window)
    assert shown == linear(curve[values], 100, 300)


@pytest.mark.parametrize(("first", "kind"), [(-500, "SS"), (65036, "US")])
def test_a_table_that_begins_below_zero_and_is_short(first: int, kind: str) -> None:
    lut = table([1000, first, 12], (np.arange(1000) * 4).astype("<u2").tobytes(), kind)
    expected = np.rint(np.array([0, 0, 2000, 3996]) * (255 / 4095)).astype(int).tolist()
    assert row([-900, -500, 0, 900], "i2", VOILUTSequence=[lut]) == expected
    rescaled = {"RescaleIntercept": "-1000", "RescaleSlope": "1"}
    assert row([100, 500, 1000, 1900], VOILUTSequence=[lut], **rescaled) == expected


def test_colour_of_any_number_of_bits() -> None:
    values = np.array([[[0] * 3, [1000] * 3, [2000] * 3, [4095] * 3]], np.uint16)
    twelve = np.asarray(load_image(dicom(values, BitsStored=12, HighBit=11)))
    assert twelve[0, :, 0].tolist() == [0, 62, 125, 255]
    sixteen = np.asarray(load_image(dicom(values * 16)))
    assert sixteen[0, :, 0].tolist() == [0, 62, 125, 255]
    eight = np.asarray(load_image(dicom(values >> 4, BitsStored=8, HighBit=7)))
    assert eight[0, :, 0].tolist() == [0, 62, 125, 255]
    planes = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    tags = {"PlanarConfiguration": 1, "PixelData": planes.tobytes()}
    separate = np.asarray(load_image(dicom(np.zeros((2, 4, 3), np.uint8), **tags)))
    assert np.array_equal(separate, np.moveaxis(planes, 0, 2))


def test_colour_as_luminance_and_differences() -> None:
    grey_and_red = np.array([[[100, 128, 128], [76, 85, 255]]], np.uint8)
    full = load_image(dicom(grey_and_red, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(np.asarray(full)[0].astype(int) - [[100] * 3, [254, 0, 0]]).max() <= 1
    deep = dicom(
        grey_and_red.astype(np.uint16) << 4,
        PhotometricInterpretation="YBR_FULL",
        BitsStored=12,
        HighBit=11,
    )
    assert np.abs(np.asarray(load_image(deep)).astype(int) - np.asarray(full)).max() <= 2
    halved = {"PixelData": bytes([100, 180, 128, 128])}
    pair = np.zeros((1, 2, 3), np.uint8)
    shown = load_image(dicom(pair, PhotometricInterpretation="YBR_FULL_422", **halved))
    assert np.asarray(shown)[0].tolist() == [[100] * 3, [180] * 3]
    halved = {"PixelData": bytes([16, 235, 128, 128])}
    shown = load_image(dicom(pair, PhotometricInterpretation="YBR_PARTIAL_422", **halved))
    assert np.asarray(shown)[0].tolist() == [[0] * 3, [255] * 3]


@pytest.mark.parametrize(("bits", "words"), [(8, "u1"), (8, "<u2"), (16, "<u2")])
@pytest.mark.parametrize("entries", [256, 1000, 255])
def test_palettes(bits: int, words: str, entries: int) -> None:
    rng = np.random.default_rng(0)
    tables = {
        colour: rng.integers(0, 2**bits, entries).astype(words)
        for colour in ("Red", "Green", "Blue")
    }
    values = np.array([[0, 10, 11, 200, 264, 3000]], np.uint16)
    picture = np.asarray(load_image(dicom(values, **palette(tables, 10, bits))))
    places = np.clip(values[0].astype(int) - 10, 0, entries - 1)
    expected = np.stack([tables[colour][places] for colour in tables], axis=-1)
    assert np.array_equal(picture[0], np.rint(expected * (255 / (2**bits - 1))))


def test_colour_spaces_that_are_not_read_are_refused() -> None:
    values = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ImageError, match="colour space that is not read"):
        load_image(dicom(values, PhotometricInterpretation="HSV"))
    with pytest.raises(ImageError, match="in colour and has no window"):
        load_image(dicom(values), window=(40.0, 400.0))


@pytest.mark.parametrize("start", [0, 128, 132])
def test_without_preamble_or_header(start: int) -> None:
    data = dicom()
    group = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    cut = data[132:] if start < 132 else data[group:]
    assert np.array_equal(grey(cut), grey(data))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_a_bare_data_set_of_other_encodings(syntax: str) -> None:
    import io

    import pydicom

    data = pydicom.dcmread(io.BytesIO(dicom(**HU, **LUNG)))
    implicit, little = syntax == "1.2.840.10008.1.2", syntax == "1.2.840.10008.1.2"
    if not little:
        data.PixelData = RAMP.byteswap().tobytes()
    del data.file_meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, implicit_vr=implicit, little_endian=little)
    assert np.array_equal(grey(buffer.getvalue()), grey(dicom(**HU, **LUNG)))


def test_float_pixels() -> None:
    import io

    import pydicom

    data = pydicom.dcmread(io.BytesIO(dicom(np.zeros((1, 4), np.uint32))))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.FloatPixelData = np.array([-1.0, 0.5, 2.0, -99.0], np.float32).tobytes()
    data.FloatPixelPaddingValue = -99.0
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data)
    assert grey(buffer.getvalue())[0].tolist() == [0, 128, 255, 0]


def test_a_decoder_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder
    from pydicom.uid import JPEGLSLossless

    data = dicom()
    plain, coded = b"1.2.840.10008.1.2.1\0", JPEGLSLossless.encode()
    assert data.count(plain) == 1
    swapped = data.replace(b"UI\x14\0" + plain, b"UI" + struct.pack("<H", len(coded)) + coded)
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    with pytest.raises(ImageError, match=r"JPEG-LS Lossless .*pip install 'biod2c\[medical\]'"):
        load_image(swapped)
    with pytest.raises(ImageError, match="compressed in a way that is not read"):
        load_image(data.replace(plain, b"1.2.840.10008.9.9.9\0"))
