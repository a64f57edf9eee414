"""Parts of CT slices and the vessels drawn into them: the answer is in the vessels alone."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from derive import questions_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sources import Picture
from vessels import AIR, DRAWN, PARTS, as_scanned, contrast_pictures, part_of, with_vessels

SIDE = 200
FLESH = 120


def body(bone: int = 255) -> Image.Image:
    """A disc of soft tissue on black, with a bone in it."""
    down, across = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    greys = np.where(np.hypot(down, across) < 85, FLESH, 0)
    greys[np.hypot(down - 60, across) < 10] = bone
    return Image.fromarray(greys.astype(np.uint8))


def slices(folder: Path) -> list[Picture]:
    """One slice with contrast medium and one without."""
    made = []
    for name, contrast in (("with", True), ("without", False)):
        image = f"images/ct_contrast/{name}.png"
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        body(200 if contrast else 255).save(folder / image)
        labels = {"modality": "CT", "contrast": contrast}
        made.append(Picture("ct_contrast", image, (SIDE, SIDE), labels))
    return made


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_vessels_are_brighter_where_they_are_said_to_be_and_nowhere_else(seed: int) -> None:
    before = np.asarray(body(), float)
    image, things = with_vessels(body(), random.Random(seed))
    change = np.asarray(image, float) - before
    assert change.min() >= 0
    assert 1 <= len(things) <= 4
    outside = np.ones_like(before, bool)
    for thing in things:
        left, top, right, bottom = thing.box
        assert 0 <= left < right <= SIDE
        assert 0 <= top < bottom <= SIDE
        x, y = (round(value) for value in thing.centre)
        assert change[min(y, SIDE - 1), min(x, SIDE - 1)] > 20
        # The edge is soft: a few pixels of it lie outside the box.
        outside[max(0, top - 8) : bottom + 8, max(0, left - 8) : right + 8] = False
    assert change[outside].max(initial=0) < 3
    assert not change[before < AIR].any()


@pytest.mark.parametrize("grey", [0, 30, 255])
def test_without_soft_tissue_there_are_no_vessels(grey: int) -> None:
    image = Image.new("L", (64, 64), grey)
    made, things = with_vessels(image, random.Random(0))
    assert things == []
    assert made.tobytes() == image.tobytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_part_keeps_its_size_and_the_greys_of_its_tissues(seed: int) -> None:
    part = part_of(body(), random.Random(seed))
    assert part.size == (SIDE, SIDE)
    greys = np.asarray(part)
    assert np.median(greys[greys > AIR]) == pytest.approx(FLESH, abs=2)
    scanned = np.asarray(as_scanned(part, random.Random(seed)))
    assert np.median(scanned[scanned > AIR]) == pytest.approx(FLESH, abs=18)


def test_parts_keep_the_answer_and_vessels_turn_it(tmp_path: Path) -> None:
    given_slices = slices(tmp_path)
    copies = contrast_pictures(given_slices, tmp_path, seed=0)
    whole = [copy for copy in copies if not copy.things]
    drawn = [copy for copy in copies if copy.things]
    assert len(whole) == 2 * PARTS
    assert len(drawn) == DRAWN
    contrast = {slice_.image: slice_.labels["contrast"] for slice_ in given_slices}
    assert all(copy.labels["contrast"] == contrast[copy.origin] for copy in whole)
    assert {copy.origin for copy in drawn} == {"images/ct_contrast/without.png"}
    for copy in drawn:
        asked = [question for question in questions_of(copy, 0) if question.task == "contrast"]
        assert {question.answer for question in asked} == {"yes"}
        assert all(q.seen_in == tuple(thing.box for thing in copy.things) for q in asked)
    assert given_slices[1].labels["contrast"] is False  # the copies have labels of their own


def test_copies_are_the_same_again_and_no_two_alike(tmp_path: Path) -> None:
    copies = contrast_pictures(slices(tmp_path), tmp_path, seed=0)
    contents = {copy.image: (tmp_path / copy.image).read_bytes() for copy in copies}
    assert len(set(contents.values())) == len(copies)
    again = contrast_pictures(slices(tmp_path), tmp_path, seed=0)
    assert contents == {copy.image: (tmp_path / copy.image).read_bytes() for copy in again}


def test_pictures_that_do_not_say_whether_contrast_was_given_have_none(tmp_path: Path) -> None:
    unknown = slices(tmp_path)[0]
    unknown.labels.pop("contrast")
    assert contrast_pictures([unknown], tmp_path, seed=0) == []
    assert not (tmp_path / "images" / "vessels").exists()
