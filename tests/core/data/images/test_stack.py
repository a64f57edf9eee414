"""Volumes opened once give the pictures that each slice alone gives, one in memory at a time."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from medical_files import dicom, nifti
from PIL import Image

from biod2c_core.data.images import Selection, load_image, open_stack
from biod2c_core.errors import ImageError

VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
ORIENTATION = [1, 0, 0, 0, 1, 0]


def series(folder: Path, places: list[float], side: int = 4) -> Path:
    """Slices named and numbered against their places."""
    folder.mkdir(exist_ok=True)
    for index, place in enumerate(places):
        values = np.full((side, side), index * 10, np.uint16)
        tags = {"ImagePositionPatient": [0, 0, place], "ImageOrientationPatient": ORIENTATION}
        number = len(places) - index
        data = dicom(
            values,
            SeriesInstanceUID="1.2",
            SOPInstanceUID=f"1.3.{index}",
            InstanceNumber=str(number),
            WindowCenter="50",
            WindowWidth="100",
            **tags,
        )
        (folder / f"{number:04}").write_bytes(data)
    return folder


def shown(path: Path, **options: int) -> list[np.ndarray]:
    with open_stack(str(path), Selection(**options)) as stack:
        return [np.asarray(stack.load(index)) for index in range(stack.count)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nifti(packed: bool, axis: int, tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(nifti(np.stack([VOLUME, VOLUME[::-1]], -1), packed=packed))
    got = shown(path, axis=axis, frame=1)
    assert len(got) == VOLUME.shape[axis]
    for index, picture in enumerate(got):
        alone = load_image(path, axis=axis, frame=1, slice_index=index)
        assert np.array_equal(picture, np.asarray(alone))


def test_a_series_in_its_order_and_what_is_odd_about_it(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4, 10, 12])
    got = shown(folder)
    assert [int(each[0, 0, 0]) for each in got] == sorted(int(each[0, 0, 0]) for each in got)
    for index, picture in enumerate(got):
        assert np.array_equal(picture, np.asarray(load_image(folder, slice_index=index)))
    shutil.copy(folder / "0002", folder / "again")
    with open_stack(str(folder), Selection()) as stack:
        assert stack.count == 5
        copies, gap = stack.remarks
    assert copies == f"{folder}: 1 file is a copy of another and left out, the first again"
    assert gap == f"{folder}: 2 slices may be missing: 6 mm between slices 2 and 3, usually 2 mm"
    assert np.array_equal(np.asarray(load_image(folder, slice_index=3)), got[3])
    (folder / "other").write_bytes(dicom(SeriesInstanceUID="1.9"))
    with (
        pytest.raises(ImageError, match="holds 2 series: 6 files like"),
        open_stack(str(folder), Selection()),
    ):
        pass


def test_frames(tmp_path: Path) -> None:
    frames = np.stack([np.full((3, 4), n * 100, np.uint16) for n in range(3)])
    (tmp_path / "m.dcm").write_bytes(dicom(frames, WindowCenter="100", WindowWidth="200"))
    pages = [Image.new("L", (4, 3), n * 50) for n in range(3)]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    for path in (tmp_path / "m.dcm", tmp_path / "m.tif"):
        for index, picture in enumerate(shown(path)):
            assert np.array_equal(picture, np.asarray(load_image(path, frame=index)))
        with pytest.raises(ImageError, match="Leave out --frame"):
            shown(path, frame=1)


def test_what_is_no_volume(tmp_path: Path) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    with pytest.raises(
        ImageError, match=r"single picture and has no slices\. Ask about it as one picture"
    ):
        shown(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image at all")
    with pytest.raises(ImageError, match="is not an image in a known format"):
        shown(tmp_path / "b.png")
    (tmp_path / "c.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ImageError, match="is not an image in a known format"):
        shown(tmp_path / "c.eps")  # whose decoder would start another program
    whole = nifti(VOLUME.repeat(20, 0), packed=True)
    (tmp_path / "cut.nii.gz").write_bytes(whole[:-30])
    with pytest.raises(ImageError, match="is damaged or cut off"):
        shown(tmp_path / "cut.nii.gz")
    wrong = whole[:-8] + bytes(4) + whole[-4:]
    (tmp_path / "sum.nii.gz").write_bytes(wrong)
    with pytest.raises(ImageError, match="checksum of its gzip stream is wrong"):
        shown(tmp_path / "sum.nii.gz")


def peak(path: Path) -> int:
    """Most bytes that reading all slices takes."""
    tracemalloc.start()
    try:
        with open_stack(str(path), Selection()) as stack:
            for index in range(stack.count):
                stack.load(index)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["nifti", "frames", "series"])
def test_memory_does_not_grow_with_the_number_of_slices(kind: str, tmp_path: Path) -> None:
    peaks, side = [], 256  # a slice has 128 KiB, its picture 192
    for count in (8, 48):
        path = tmp_path / f"{kind}{count}"
        values = np.random.default_rng(0).integers(0, 999, (side, side, count), np.int16)
        if kind == "nifti":
            path.write_bytes(nifti(values, packed=True))
        elif kind == "frames":
            path.write_bytes(dicom(values.transpose(2, 0, 1).astype(np.uint16)))
        else:
            series(path, list(range(count)), side)
        shown(path)[:0]  # imports
        peaks.append(peak(path))
    assert peaks[1] < peaks[0] + 10 * side * side  # 40 slices more hold 80 such
