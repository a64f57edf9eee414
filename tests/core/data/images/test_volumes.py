"""Volumes: NIfTI told from its content, of every version and type, and folders of DICOM series."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medical_files import dicom, nifti

from biod2c_core.data.images import is_volume, load_image
from biod2c_core.errors import ImageError

VOLUME = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def loaded(source: bytes | Path, **options: Any) -> np.ndarray:
    return np.asarray(load_image(source, **options))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_told_from_content_in_both_byte_orders(
    packed: bool, version: int, order: str, tmp_path: Path
) -> None:
    data = nifti(VOLUME, packed=packed, version=version, order=order)
    expected = loaded(nifti(VOLUME))
    (tmp_path / "without_suffix").write_bytes(data)
    assert is_volume(data)
    assert np.array_equal(loaded(data), expected)
    assert np.array_equal(loaded(io.BytesIO(data)), expected)
    assert np.array_equal(loaded(tmp_path / "without_suffix"), expected)


def test_a_frame_is_a_volume_and_a_slice_a_slice() -> None:
    series = np.stack([VOLUME, VOLUME[::-1], VOLUME * 0], axis=-1)
    data = nifti(series)
    for frame, volume in ((0, VOLUME), (1, VOLUME[::-1])):
        for slice_index in (0, 3):
            shown = loaded(data, frame=frame, slice_index=slice_index)
            assert np.array_equal(shown, loaded(nifti(volume), slice_index=slice_index))
    with pytest.raises(ImageError, match="has volumes 0 to 2, not 3"):
        load_image(data, frame=3)
    with pytest.raises(ImageError, match="has volumes 0 to 0, not 1"):
        load_image(nifti(VOLUME), frame=1)
    with pytest.raises(ImageError, match="has sagittal slices 0 to 1, not 2"):
        load_image(data, axis=0, slice_index=2)
    five = np.stack(
        [series, series + 100], axis=-1
    )  # further axes count on: the first runs fastest
    expected = loaded(nifti(VOLUME[::-1]), slice_index=1)
    assert np.array_equal(loaded(nifti(five), frame=4, slice_index=1), expected)


@pytest.mark.parametrize("code", ["u1", "i1", "u2", "i4", "i8", "u8", "f4", "f8"])
def test_every_type_of_voxel(code: str) -> None:
    assert np.array_equal(loaded(nifti(VOLUME.astype(code))), loaded(nifti(VOLUME)))


def test_complex_and_colour_volumes() -> None:
    waves = (VOLUME * np.exp(1j * VOLUME)).astype(np.complex64)
    assert np.abs(loaded(nifti(waves)).astype(int) - loaded(nifti(VOLUME))).max() <= 1
    colours = np.zeros((2, 3, 4), dtype=[(each, "u1") for each in "RGBA"])
    colours["G"], colours["A"] = 200, 255
    colours["A"][0] = 0
    shown = loaded(nifti(colours))
    assert shown[0].tolist() == [[0, 200, 0], [255, 255, 255]]
    with pytest.raises(ImageError, match="in colour and has no window"):
        load_image(nifti(colours), window=(1.0, 2.0))
    vectors = np.zeros((2, 3, 4, 1, 3), np.uint8)
    vectors[..., 1] = 9
    assert loaded(nifti(vectors, intent_code=2003))[0, 0].tolist() == [0, 9, 0]


def test_flat_pictures_and_what_is_no_picture() -> None:
    flat = loaded(nifti(VOLUME[:, :, 2]))
    assert np.array_equal(flat, loaded(nifti(VOLUME), slice_index=2))
    with pytest.raises(ImageError, match="CIFTI"):
        load_image(nifti(np.zeros((1, 1, 1, 1, 9, 7), np.float32), version=2, intent_code=3006))
    with pytest.raises(ImageError, match="CIFTI"):
        load_image(nifti(np.zeros((1, 1, 1, 1, 9, 7), np.float32)))
    with pytest.raises(ImageError, match="a row of values"):
        load_image(nifti(np.zeros((900, 1, 1), np.float32)))


@pytest.mark.parametrize("slice_index", [0, 3])
def test_a_wrong_checksum_is_found_wherever_the_slice_is(slice_index: int) -> None:
    data = bytearray(nifti(VOLUME, packed=True))
    data[-6] ^= 1
    with pytest.raises(ImageError, match="checksum of its gzip stream is wrong"):
        load_image(bytes(data), slice_index=slice_index)
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(nifti(VOLUME, packed=True)[:-9], slice_index=slice_index)


def test_windows_of_volumes() -> None:
    shares = (VOLUME / 23).astype(np.float32)
    assert loaded(nifti(shares), window=(0.5, 0.5)).max() == 255
    for window in ((40.0, 0.0), (40.0, -1.0), (float("nan"), 9.0)):
        with pytest.raises(ImageError, match=r"window .* its width must be over 0"):
            load_image(nifti(VOLUME), window=window)


def test_bombs_behind_a_small_file() -> None:
    header = bytearray(nifti(VOLUME)[:352])
    header[108:112] = np.array([352 + (700 << 20)], "<f4").tobytes()
    with pytest.raises(ImageError, match="header extensions of over 16 MiB"):
        load_image(gzip.compress(bytes(header) + bytes(1 << 16)))
    with pytest.raises(ImageError, match="more than its header says"):
        load_image(gzip.compress(nifti(VOLUME) + bytes(4 << 20)))


def series(folder: Path, count: int = 5, **changes: Any) -> None:
    """Axial slices whose names and numbers run against their positions; slice n is n * 100."""
    for place in range(count):
        tags: dict[str, Any] = {
            "SeriesInstanceUID": "1.2.3",
            "InstanceNumber": str(count - place),
            "ImagePositionPatient": [0, 0, place * 2.5],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "WindowCenter": "200",
            "WindowWidth": "400",
        }
        values = np.full((2, 3), place * 100, np.uint16)
        (folder / f"{count - place}.dcm").write_bytes(dicom(values, **(tags | changes)))


def shade(place: int) -> int:
    return round(min(max((place * 100 - 199.5) / 399 + 0.5, 0), 1) * 255)


def test_a_series_is_sorted_by_position(tmp_path: Path) -> None:
    series(tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert loaded(tmp_path)[0, 0, 0] == shade(2)
    for place in range(4):
        assert loaded(tmp_path, slice_index=place)[0, 0, 0] == shade(place)
    assert loaded(tmp_path, slice_index=1, window=(100.0, 2.0))[0, 0, 0] in (127, 128, 255)
    with pytest.raises(ImageError, match="has slices 0 to 4, not 5"):
        load_image(tmp_path, slice_index=5)
    with pytest.raises(ImageError, match="has volumes 0 to 0, not 1"):
        load_image(tmp_path, frame=1)
    with pytest.raises(ImageError, match="Leave out --axis"):
        load_image(tmp_path, axis=1)


@pytest.mark.parametrize(
    ("orientation", "position"),
    [
        ([0, 1, 0, 0, 0, -1], [-1, 0, 0]),  # sagittal: from the left, where DICOM's x is large
        ([1, 0, 0, 0, 0, -1], [0, -1, 0]),  # coronal: from the back, where its y is large
        ([1, 0, 0, 0, -1, 0], [0, 0, 1]),  # axial, seen from above
    ],
)
def test_slices_begin_at_left_back_and_feet(
    orientation: list[float], position: list[int], tmp_path: Path
) -> None:
    for place in range(4):
        where = [each * place * 3.0 for each in position]
        tags = {"SeriesInstanceUID": "1.2.3", "ImagePositionPatient": where}
        values = np.full((2, 2), place, np.uint16)
        data = dicom(
            values, ImageOrientationPatient=orientation, WindowCenter="2", WindowWidth="4", **tags
        )
        (tmp_path / f"{9 - place}").write_bytes(data)
    shades = [int(loaded(tmp_path, slice_index=place)[0, 0, 0]) for place in range(4)]
    assert shades == sorted(shades)
    assert len(set(shades)) == 4


def test_a_series_of_several_times(tmp_path: Path) -> None:
    for time in range(2):
        for place in range(3):
            tags = {
                "SeriesInstanceUID": "1.2.3",
                "InstanceNumber": str(time * 3 + place + 1),
                "ImagePositionPatient": [0, 0, place],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "WindowCenter": "50",
                "WindowWidth": "100",
            }
            values = np.full((2, 2), time * 50 + place * 10, np.uint16)
            (tmp_path / f"{place}{time}").write_bytes(dicom(values, **tags))
    shades = [
        int(loaded(tmp_path, frame=time, slice_index=place)[0, 0, 0])
        for time in range(2)
        for place in range(3)
    ]
    assert shades == sorted(shades)
    assert len(set(shades)) == 6
    (tmp_path / "01").unlink()
    with pytest.raises(ImageError, match="1 to 2 slices at a place"):
        load_image(tmp_path)


def test_folders_that_are_no_one_series(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder, expected an image file or the DICOM files"):
        load_image(tmp_path)
    series(tmp_path, 3)
    (tmp_path / "report").write_bytes(dicom()[: dicom().index(b"\x28\0\x02\0")])  # no picture
    (tmp_path / "volume").write_bytes(b"NRRD0004\n")
    assert loaded(tmp_path)[0, 0, 0] == shade(1)
    (tmp_path / "cut").write_bytes(dicom()[: dicom().index(b"\xe0\x7f\x10\0")])
    with pytest.raises(ImageError, match="cut is a DICOM file without its pixels"):
        load_image(tmp_path)
    (tmp_path / "cut").unlink()
    with pytest.raises(ImageError, match="is a folder, expected an image file"):
        load_image(".", root=tmp_path)
    other = dicom(SeriesInstanceUID="1.2.4")
    (tmp_path / "scout.dcm").write_bytes(other)
    with pytest.raises(
        ImageError, match=r"2 series: 3 files like 1\.dcm, 1 files like scout"
    ) as no:
        load_image(tmp_path)
    assert "1.2.4" not in str(no.value)
    (tmp_path / "scout.dcm").write_bytes(dicom(SeriesInstanceUID="1.2.3"))
    with pytest.raises(ImageError, match="2 sizes or directions of slices"):
        load_image(tmp_path)
    (tmp_path / "scout.dcm").write_bytes(dicom(np.zeros((4, 2, 5), np.uint16)))
    with pytest.raises(ImageError, match=r"several frames, scout\.dcm. Name that file"):
        load_image(tmp_path)


@pytest.mark.parametrize("option", ["axis", "slice_index"])
def test_a_dicom_file_has_no_axis_and_no_slice(option: str) -> None:
    with pytest.raises(ImageError, match=r"is a DICOM file and has no .* Leave out --"):
        load_image(dicom(), **{option: 0})
