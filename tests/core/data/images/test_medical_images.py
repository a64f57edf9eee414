"""DICOM and NIfTI wherever an image is accepted, and nothing of the patient in what comes out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from medical_files import RAMP, dicom, grey, nifti

from biod2c_core.data.images import load_image
from biod2c_core.data.images.pixels import apply_window
from biod2c_core.errors import ImageError


def test_without_a_window_the_range_of_the_frame_is_shown() -> None:
    expected = np.rint(RAMP / 1100 * 255).astype(np.uint8)
    assert np.array_equal(grey(dicom()), expected)
    assert np.array_equal(grey(dicom(PhotometricInterpretation="MONOCHROME1")), 255 - expected)


def test_rescale_comes_before_the_window() -> None:
    window = {
        "WindowCenter": [40, 9999],
        "WindowWidth": [400, 1],
        "RescaleIntercept": -500,
        "RescaleSlope": 1,
    }
    values = RAMP.astype(float) - 500
    expected = np.clip((values - 39.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(grey(dicom(**window)) - expected).max() <= 0.51
    narrow = grey(dicom(**window), window=(0, 100))
    assert narrow[values < -60].max() == 0
    assert narrow[values > 60].min() == 255


def test_window_functions_of_the_standard() -> None:
    x = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    assert apply_window(x, (1, 2), "LINEAR_EXACT").tolist() == [0, 0, 128, 255, 255]
    assert apply_window(x, (1, 1)).tolist() == [0, 0, 255, 255, 255]
    sigmoid = apply_window(x, (1, 4), "SIGMOID")
    assert sigmoid.tolist() == np.rint(255 / (1 + np.exp(-(x - 1)))).tolist()
    with pytest.raises(ValueError, match="no width"):
        apply_window(x, (1, 0))


def test_signed_values_and_padding_outside_the_range() -> None:
    values = np.array([[-2000, -1000], [0, 1000]], np.int16)
    assert grey(dicom(values, PixelPaddingValue=-2000)).tolist() == [[0, 0], [128, 255]]


def test_frames_of_a_series() -> None:
    series = np.stack([RAMP, RAMP[::-1], RAMP * 0 + 7])
    assert np.array_equal(grey(dicom(series), frame=1), grey(dicom(series))[::-1])
    with pytest.raises(ImageError, match="frames 0 to 2, not 3"):
        load_image(dicom(series), frame=3)


def test_colour() -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(load_image(dicom(values))), values)


def test_a_large_header_is_refused() -> None:
    with pytest.raises(ImageError, match=r"60,000 x 60,000 pixels, over the limit"):
        load_image(dicom(Rows=60_000, Columns=60_000))


def test_no_patient_in_pictures_messages_or_logs(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    picture = load_image(dicom())
    assert picture.info == {}
    broken = dicom()
    position = broken.index(b"SECRET")
    cases = [broken[:-5], broken[:position] + b"\xff" * 6 + broken[position + 6 :]]
    cases += [
        broken.replace(b"19700101", b"SECRET^P"),
        broken.replace(b"MONOCHROME2", b"SECRET^PATI"),
    ]
    cases += [broken[: position + 4], broken.replace(b"US\x02\x00\x04\x00", b"US\x02\x00\x99\x99")]
    failures = []
    for data in cases:
        try:
            load_image(data)
        except ImageError as error:
            failures.append(error)
    captured = capfd.readouterr()
    said = [caplog.text, captured.out, captured.err, *map(str, failures)]
    assert len(failures) >= 2
    assert "SECRET" not in "".join(said)
    assert not any(error.__cause__ for error in failures)


# x grows to the right, y to the front, z to the head
VOLUME = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def as_named(data: bytes, name: str, tmp_path: Path) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_slices_are_upright_in_radiology_s_convention(packed: bool, tmp_path: Path) -> None:
    path = as_named(nifti(VOLUME, packed=packed), "a.nii.gz" if packed else "a.nii", tmp_path)

    def shown(plane: np.ndarray) -> np.ndarray:
        plane = plane[::-1, ::-1].T.astype(float)
        return np.rint((plane - plane.min()) / (plane.max() - plane.min()) * 255)

    for axis, plane in ((0, VOLUME[1]), (1, VOLUME[:, 1]), (2, VOLUME[:, :, 1])):
        picture = np.asarray(load_image(path, axis=axis, slice_index=1))[..., 0]
        assert np.array_equal(picture, shown(plane)), axis
    middle = np.asarray(load_image(path))[..., 0]
    assert np.array_equal(middle, shown(VOLUME[:, :, 2]))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_the_order_in_memory_does_not_matter(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    """The same body stored along other axes, in other directions, gives the same picture."""
    stored = VOLUME.transpose(order)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for memory, (body, sign) in enumerate(zip(order, signs, strict=True)):
        affine[body, memory] = sign
        if sign < 0:
            stored = np.flip(stored, memory)
    plain = as_named(nifti(VOLUME), "plain.nii", tmp_path)
    other = as_named(nifti(np.ascontiguousarray(stored), affine), "other.nii", tmp_path)
    for axis in range(3):
        first = np.asarray(load_image(plain, axis=axis, slice_index=0))
        assert np.array_equal(first, np.asarray(load_image(other, axis=axis, slice_index=0)))


def test_series_scaling_windows_and_colour(tmp_path: Path) -> None:
    series = np.stack([VOLUME, VOLUME * 0], axis=-1)
    plain = as_named(nifti(VOLUME), "plain.nii", tmp_path)
    over_time = as_named(nifti(series), "time.nii", tmp_path)
    assert load_image(plain).tobytes() == load_image(over_time).tobytes()
    window = np.asarray(load_image(plain, slice_index=0, window=(10, 2)))
    assert set(np.unique(window)) <= {0, 128, 255}
    display = as_named(nifti(VOLUME, cal_min=100, cal_max=200), "display.nii", tmp_path)
    assert np.asarray(load_image(display)).max() == 0
    colours = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 9
    assert load_image(as_named(nifti(colours), "c.nii", tmp_path)).getpixel((0, 0)) == (0, 9, 0)


def test_bad_volumes_and_requests(tmp_path: Path) -> None:
    good = as_named(nifti(VOLUME), "good.nii", tmp_path)
    with pytest.raises(ImageError, match="axial slices 0 to 3, not 4"):
        load_image(good, slice_index=4)
    with pytest.raises(ImageError, match=r"axis 3 .*expected 0, 1 or 2"):
        load_image(good, axis=3)
    cut = as_named(nifti(VOLUME)[:-10], "cut.nii", tmp_path)
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(cut, slice_index=3)
    text = as_named(b"hello", "text.nii", tmp_path)
    with pytest.raises(ImageError, match="not a readable NIfTI"):
        load_image(text)
    header = bytearray(nifti(VOLUME))
    header[42:48] = np.array([30000, 30000, 100], "<i2").tobytes()
    with pytest.raises(ImageError, match="180,000,000,000 bytes of voxels"):
        load_image(as_named(bytes(header), "bomb.nii", tmp_path))


def test_without_the_extra_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scan, volume = dicom(), as_named(nifti(VOLUME), "a.nii", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    for source in (scan, volume):
        with pytest.raises(ImageError.__mro__[1], match=r"pip install 'biod2c\[medical\]'"):
            load_image(source)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["ID_0000", "ID_0060"])
def test_real_slices_look_like_their_published_pictures(data_root: Path, name: str) -> None:
    pytest.importorskip("pydicom", reason="the extra 'medical' is not installed")
    decoded = load_image(data_root / "dicom" / f"{name}.dcm").convert("L")
    published = load_image(data_root / "ct_contrast" / "images" / f"{name}.jpg").convert("L")
    pair = [np.asarray(picture.resize((64, 64)), float).ravel() for picture in (decoded, published)]
    assert np.corrcoef(pair)[0, 1] > 0.99
