"""The pointing game: the boxes of drawn arrows, and what counts as a hit."""

from __future__ import annotations

import pytest
from arrows import Arrow
from PIL import Image
from pointing import Case, contains_middle, rate

GREY = Image.new("RGB", (100, 80))


def test_the_box_of_an_arrow_holds_it_and_stays_inside() -> None:
    arrow = Arrow(tip=(50, 40), angle=0, length=30, width=4, head=10, outlined=False)
    left, top, right, bottom = arrow.box(GREY.size)
    assert (left, right) == (20, 50)
    assert (top, bottom) == pytest.approx((40 - 4.5, 40 + 4.5))  # the head is .45 of its length
    outside = Arrow(tip=(10, 2), angle=0, length=30, width=4, head=10, outlined=False)
    assert outside.box(GREY.size)[:2] == (0, 0)


def test_the_middle_and_the_interval() -> None:
    inside = Case("arrow", GREY, "where?", ((0, 0, 10, 10), (40, 30, 60, 50)))
    assert contains_middle(inside)
    assert not contains_middle(Case("arrow", GREY, "where?", ((0, 0, 10, 10),)))
    # Wilson's interval of 8 in 10, as in any table
    assert rate([True] * 8 + [False] * 2) == "0.80 (0.49-0.94)"
