"""Slices of heads: their planes, how they hang, and their scale."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
from heads import PIXELS_PER_MM, VOLUMES, head_pictures, slices
from PIL import Image

SHAPE = (20, 30, 40)  # right, anterior, superior
SPACING = (2.0, 1.0, 1.5)  # mm


def write_volume(path: Path, bright: tuple[slice, ...], turned: bool = False) -> None:
    """A grey block with a bright part; stored with the axes in another order and sense if turned."""
    values = np.full(SHAPE, 50, np.int16)
    values[bright] = 100
    image = nibabel.Nifti1Image(values, np.diag([*SPACING, 1.0]))
    if turned:
        image = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("bright", "places"),
    [  # plane -> where the bright half lies: rows, columns
        ((slice(10, None), slice(None), slice(None)), {"axial": "left", "coronal": "left"}),
        ((slice(None), slice(15, None), slice(None)), {"axial": "upper", "sagittal": "left"}),
        ((slice(None), slice(None), slice(20, None)), {"coronal": "upper", "sagittal": "upper"}),
    ],
)
def test_slices_hang_as_radiologists_hang_them(
    tmp_path: Path, bright: tuple[slice, ...], places: dict[str, str], turned: bool
) -> None:
    write_volume(tmp_path / "head.nii.gz", bright, turned)
    found = 0
    for plane, _, image in slices(tmp_path / "head.nii.gz", 3):
        if plane in places:
            grey = np.asarray(image, float)
            height, width = grey.shape
            half = {
                "left": grey[:, : width // 2].mean() - grey[:, width // 2 :].mean(),
                "upper": grey[: height // 2].mean() - grey[height // 2 :].mean(),
            }
            assert half[places[plane]] > 200
            found += 1
    assert found == 6


def test_slices_have_the_scale_of_the_head_whatever_the_voxels(tmp_path: Path) -> None:
    write_volume(tmp_path / "head.nii.gz", (slice(10, None), slice(None), slice(None)))
    sizes = {plane: image.size for plane, _, image in slices(tmp_path / "head.nii.gz", 2)}
    right, front, up = (round(n * mm * PIXELS_PER_MM) for n, mm in zip(SHAPE, SPACING, strict=True))
    assert sizes == {"sagittal": (front, up), "coronal": (right, up), "axial": (right, front)}


def test_heads_of_training_are_not_those_held_out(tmp_path: Path) -> None:
    for volume in VOLUMES:
        write_volume(tmp_path / volume.file, (slice(None), slice(5, 9), slice(None)))
    pictures = head_pictures(tmp_path, tmp_path / "out", 4)
    assert {picture.origin for picture in pictures if picture.part == "train"}.isdisjoint(
        {picture.origin for picture in pictures if picture.part == "heldout"}
    )
    counts = Counter((picture.part, picture.labels["plane"]) for picture in pictures)
    assert set(counts.values()) == {8}
    assert len(counts) == 6
    for picture in pictures:
        with Image.open(tmp_path / "out" / picture.image) as image:
            assert image.size == picture.size
