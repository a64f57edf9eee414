"""Copies of scarce images: what they may change and what not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sources import Picture
from varied import COPIES, gamma_greys, other_greys, same_greys, varied, varied_pictures


def disc() -> Image.Image:
    """A grey disc on black, with a white half and a grey one."""
    rows, columns = np.mgrid[:80, :100]
    inside = (rows - 40) ** 2 + (columns - 50) ** 2 < 30**2
    return Image.fromarray((inside * np.where(rows < 40, 255, 100)).astype(np.uint8))


def picture(source: str, folder: Path) -> Picture:
    name = f"images/{source}/a.png"
    (folder / name).parent.mkdir(parents=True)
    disc().save(folder / name)
    return Picture(source, name, (100, 80), {"contrast": "yes"}, part="train")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_up_stays_up_and_contrast_keeps_its_grey(seed: int) -> None:
    made = np.asarray(varied(disc(), same_greys, random.Random(seed)), float)
    assert made.shape == (80, 100)
    assert made[:40].mean() > 1.5 * made[40:].mean()
    assert abs(made[25, 50] - 255) < 3
    assert abs(made[55, 50] - 100) < 3


def test_grey_changes_where_it_may_and_black_and_white_stay() -> None:
    lower = [
        float(np.asarray(varied(disc(), gamma_greys, random.Random(seed)))[55, 50])
        for seed in range(20)
    ]
    assert min(lower) < 80
    assert max(lower) > 120
    for seed in range(20):
        made = np.asarray(varied(disc(), gamma_greys, random.Random(seed)))
        assert made[2, 2] == 0
        assert made[25, 50] > 250


def test_other_greys_turn_light_and_dark_around_but_leave_black() -> None:
    made = [
        np.asarray(varied(disc(), other_greys, random.Random(seed)), float) for seed in range(20)
    ]
    upper, lower = ([float(image[row, 50]) for image in made] for row in (25, 55))
    darker = sum(u < v for u, v in zip(upper, lower, strict=True))
    assert 2 < darker < 18
    assert all(image[2, 2] == 0 for image in made)
    assert max(lower) - min(lower) > 100


def test_copies_belong_to_their_image_and_other_sets_have_none(tmp_path: Path) -> None:
    given_pictures = [picture(source, tmp_path) for source in ("ct_contrast", "blood_cells")]
    copies = varied_pictures(given_pictures, tmp_path, seed=0)
    assert len({copy.image for copy in copies}) == COPIES
    assert {copy.origin for copy in copies} == {"images/ct_contrast/a.png"}
    assert {copy.labels["contrast"] for copy in copies} == {"yes"}
    contents = {(tmp_path / copy.image).read_bytes() for copy in copies}
    assert len(contents) == COPIES
    again = varied_pictures(given_pictures, tmp_path, seed=0)
    assert {(tmp_path / copy.image).read_bytes() for copy in again} == contents
