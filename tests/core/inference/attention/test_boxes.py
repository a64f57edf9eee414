"""Boxes: what is read, the share of a map inside, and the pointing game."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from biod2c_core.errors import InputError
from biod2c_core.inference.attention.boxes import check_boxes, parse_boxes, peak, score_box

MAP = np.array([[0.1, 0.1, 0.0, 0.0], [0.1, 0.5, 0.0, 0.0], [0, 0, 0, 0.2], [0, 0, 0, 0]])
SIZE = (400, 200)  # a cell is 100 x 50 pixels


def test_mass_area_and_hit_by_hand() -> None:
    score = score_box(MAP, SIZE, (100, 50, 200, 100))  # cell (1, 1)
    assert (score.mass, score.area, score.hit) == (pytest.approx(0.5), 1 / 16, True)
    score = score_box(MAP, SIZE, (0, 0, 150, 100))  # column 0 and half of column 1
    assert score.mass == pytest.approx(0.2 + 0.5 * 0.6)
    assert score.area == pytest.approx(0.375 * 0.5)
    assert score.hit  # the middle of cell (1, 1) is (150, 75)
    assert not score_box(MAP, SIZE, (200, 100, 400, 200)).hit


def test_the_whole_image_holds_everything_and_outside_counts_nothing() -> None:
    score = score_box(MAP, SIZE, (-50, -50, 900, 900))
    assert (score.mass, score.area) == (pytest.approx(1.0), pytest.approx(1.0))
    assert score_box(MAP, SIZE, (500, 0, 600, 50)).mass == 0


def test_the_peak_is_the_middle_of_the_largest_cell() -> None:
    assert peak(MAP, SIZE) == (150.0, 75.0)


def test_boxes_are_read_from_text_and_file(tmp_path: Path) -> None:
    assert parse_boxes("1,2,3,4; 5,6,7.5,8") == [(1, 2, 3, 4), (5, 6, 7.5, 8)]
    (tmp_path / "boxes.json").write_text(json.dumps([[1, 2, 3, 4]]))
    assert parse_boxes(str(tmp_path / "boxes.json")) == [(1, 2, 3, 4)]


@pytest.mark.parametrize("text", ["", "a,b", "1,2,3", "3,0,1,5", "1,1,1,1", "no.json"])
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_boxes(text)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"boxes": 3}')
    with pytest.raises(InputError, match="holds no boxes"):
        parse_boxes(str(tmp_path / "boxes.json"))


@pytest.mark.parametrize("box", [(400, 0, 500, 50), (0, 200, 9, 300), (-9, 0, 0, 9), (0, -9, 9, 0)])
def test_a_box_outside_the_image_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="lies outside the image of 400 x 200"):
        check_boxes([box], SIZE)
    check_boxes([(-9, -9, 1, 1), (399, 199, 500, 300)], SIZE)
