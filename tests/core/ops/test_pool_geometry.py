"""Which cells belong to which block, and how many scales fit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.ops.multi_scale_pool import block_boxes, block_edges, count_blocks, resolve_scales


def test_edges_of_a_size_that_does_not_divide() -> None:
    assert block_edges(7, 4) == [0, 1, 3, 5, 7]
    assert block_edges(8, 4) == [0, 2, 4, 6, 8]
    assert block_edges(5, 1) == [0, 5]


@given(st.integers(1, 300), st.integers(0, 8))
def test_bins_are_never_empty_and_unions_of_finer_ones(cells: int, doublings: int) -> None:
    parts = 2**doublings
    edges = block_edges(cells, parts)
    assert edges[0] == 0
    assert edges[-1] == cells
    assert edges == block_edges(cells, 2 * parts)[::2]
    if parts <= cells:
        assert all(a < b for a, b in pairwise(edges))


@pytest.mark.parametrize(
    ("cells", "blocks"), [(1, 1), (7, 21), (14, 85), (16, 341), (24, 341), (32, 1365), (100, 1365)]
)
def test_auto_takes_as_many_scales_as_fit_and_at_most_six(cells: int, blocks: int) -> None:
    assert count_blocks(resolve_scales("auto", cells, cells)) == blocks
    assert resolve_scales("auto", cells, 5 * cells) == resolve_scales("auto", 5 * cells, cells)
    assert count_blocks(resolve_scales("auto", cells, 5 * cells)) == blocks


def test_more_than_six_scales_when_asked_for_and_the_map_has_room() -> None:
    assert resolve_scales(7, 64, 70) == 7


@pytest.mark.parametrize(
    ("scales", "size", "words"),
    [
        (6, (24, 40), ["scales=6", "32 x 32", "24 x 40", "scales <= 5"]),
        (2, (1, 9), ["scales=2", "2 x 2", "1 x 9", "scales <= 1"]),
        (0, (8, 8), ["positive", "0"]),
        (-1, (8, 8), ["positive", "-1"]),
        (True, (8, 8), ["positive", "True"]),
        (2.0, (8, 8), ["positive", "2.0"]),
        ("all", (8, 8), ["positive", "'all'"]),
        ("auto", (0, 8), ["0 x 8"]),
    ],
)
def test_bad_scales_are_named(scales: object, size: tuple[int, int], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        resolve_scales(scales, *size)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("scales", "height", "width"), [(1, 1, 1), (3, 7, 9), (4, 8, 31)])
def test_boxes_of_a_scale_tile_the_map_once_in_row_major_order(
    scales: int, height: int, width: int
) -> None:
    boxes = block_boxes(scales, height, width)
    assert boxes.shape == (count_blocks(scales), 4)
    assert boxes.dtype == torch.int64
    for scale in range(scales):
        covered = torch.full((height, width), -1)
        start = count_blocks(scale)
        of_scale = boxes[start : start + 4**scale].tolist()
        for i, (top, left, bottom, right) in enumerate(of_scale):
            assert (covered[top:bottom, left:right] == -1).all()
            covered[top:bottom, left:right] = i
        assert (covered >= 0).all()
        corners = [(top, left) for top, left, _, _ in of_scale]
        assert corners == sorted(corners)
