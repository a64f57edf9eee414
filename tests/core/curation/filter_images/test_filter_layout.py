"""Panels are counted on the pixels, whether gutters or seams part them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.curation.filter_images.layout import (
    FEATURES,
    RULES,
    SIDE,
    count_panels,
    layout_features,
)

SEAMS, GUTTERS = RULES[0], RULES[4]


def texture(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Blobs of several pixels, as tissue has them: (H, W, 3) uint8 around a grey of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 25, (shape[0] // 6 + 2, shape[1] // 6 + 2))
    grown = np.kron(coarse, np.ones((6, 6)))
    rows = np.cumsum(np.cumsum(grown, 0), 1)
    smooth = (rows[6:, 6:] - rows[:-6, 6:] - rows[6:, :-6] + rows[:-6, :-6]) / 36
    grey = rng.uniform(60, 190) + smooth[: shape[0], : shape[1]] + rng.normal(0, 3, shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def figure(rows: int, columns: int, gutter: int, page: int = 255) -> np.ndarray:
    pixels = np.full((SIDE, SIDE, 3), page, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * SIDE // rows, (row + 1) * SIDE // rows - gutter * (row < rows - 1)
            left = column * SIDE // columns
            right = (column + 1) * SIDE // columns - gutter * (column < columns - 1)
            seed = 100 * rows + 10 * row + column
            pixels[top:bottom, left:right] = texture((bottom - top, right - left), seed)
    return pixels


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (2, 3), (1, 7), (3, 3), (4, 4)])
@pytest.mark.parametrize("page", [0, 255])
def test_gutters_part_panels(rows: int, columns: int, page: int) -> None:
    assert count_panels(figure(rows, columns, 4, page), GUTTERS) == rows * columns


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (2, 3), (3, 3)])
def test_seams_part_panels_that_touch(rows: int, columns: int) -> None:
    assert count_panels(figure(rows, columns, 0), SEAMS) == rows * columns


def test_one_picture_is_one_panel() -> None:
    for rule in (SEAMS, GUTTERS):
        assert count_panels(figure(1, 1, 0), rule) == 1


def test_uneven_rows_are_cut_row_by_row() -> None:
    pixels = figure(2, 2, 4)
    pixels[: SIDE // 2 - 4] = figure(2, 3, 4)[: SIDE // 2 - 4]
    assert count_panels(pixels, GUTTERS) == 5


def test_a_turned_figure_has_the_same_panels() -> None:
    pixels = figure(2, 3, 4)
    assert count_panels(np.ascontiguousarray(pixels.swapaxes(0, 1)), GUTTERS) == 6


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "flat", "stripes", "squares"]))
def test_any_pixels_give_finite_features(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    size = {"noise": (SIDE, SIDE), "flat": (1, 1), "stripes": (SIDE, 1), "squares": (20, 20)}[kind]
    small = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    repeats = (SIDE // size[0], SIDE // size[1])
    pixels = np.kron(small, np.ones((*repeats, 1), np.uint8)).astype(np.uint8)
    features = layout_features(pixels, aspect=1 + seed % 7)
    assert features.shape == (FEATURES,)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 10
