"""Figures of a report, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from figures import write_images
from PIL import Image

from biod2c_core.curation.filter_images.quality import draw_mistakes, measure_quality
from biod2c_core.curation.filter_images.sources import Item, list_images

PROBABILITIES = np.array([0.95, 0.85, 0.15, 0.65, 0.05, 0.25])
POLLUTED = np.array([True, True, True, False, False, False])


def test_confusion_and_what_follows() -> None:
    quality = measure_quality(PROBABILITIES, POLLUTED, 0.5)
    found = (quality.true_positive, quality.false_positive)
    assert (*found, quality.false_negative, quality.true_negative) == (2, 1, 1, 2)
    assert quality.precision == quality.recall == quality.f1 == pytest.approx(2 / 3)
    assert measure_quality(PROBABILITIES, POLLUTED, 0.1).recall == 1
    assert (
        measure_quality(PROBABILITIES, POLLUTED, 0.65).false_positive == 1
    )  # from the threshold on


def test_calibration_compares_shares_by_tenth() -> None:
    quality = measure_quality(np.array([0.15, 0.15, 0.95, 1.0]), np.array([0, 1, 1, 1], bool), 0.5)
    assert [(each.low, each.images) for each in quality.bins] == [(0.1, 2), (0.9, 2)]
    assert quality.bins[0].observed == 0.5
    assert quality.calibration_error == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)
    assert quality.brier == pytest.approx((0.15**2 + 0.85**2 + 0.05**2) / 4)


def test_nothing_found_is_zero_and_no_error() -> None:
    quality = measure_quality(np.zeros(3), np.array([True, False, False]), 0.5)
    assert (quality.precision, quality.recall, quality.f1) == (0, 0, 0)
    assert measure_quality(np.zeros(0), np.zeros(0, bool), 0.5).images == 0


def test_the_sheet_shows_the_worst_mistakes_first(tmp_path: Path) -> None:
    items = list_images(write_images(tmp_path / "images", 3))
    polluted = np.array([item.name.startswith("polluted") for item in items])
    items[3] = Item("gone.png", str(tmp_path / "gone.png"))
    target = tmp_path / "sheet.png"
    # clean-01 is the worst mistake, polluted (gone) the second
    wrong = draw_mistakes(target, items, np.array([0.1, 0.99, 0.2, 0.3, 0.9, 0.8]), polluted, 0.5)
    assert wrong == 2
    with Image.open(target) as sheet:
        assert sheet.size == (1200, 230)
        first, second = sheet.getpixel((50, 80)), sheet.getpixel((250, 80))
    assert max(first) < 200
    assert second == (255, 221, 221)


def test_without_mistakes_there_is_a_sheet_that_says_so(tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    assert draw_mistakes(target, [], np.zeros(0), np.zeros(0, bool), 0.5) == 0
    assert np.asarray(Image.open(target)).min() == 0
