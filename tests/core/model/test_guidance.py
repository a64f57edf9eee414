"""L_att against a derivation cell by cell, and what it trains."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.model.beyond.attention_guidance import (
    ATT,
    block_areas,
    covered_cells,
    has_box,
    outside_boxes,
)
from biod2c_core.ops.multi_scale_pool import block_boxes, count_blocks


def covered_by_hand(boxes: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Each cell's largest overlap with a box, by plain arithmetic."""
    cells = [[0.0] * width for _ in range(height)]
    for left, top, right, bottom in boxes:
        for row in range(height):
            for column in range(width):
                down = max(0.0, min(row + 1, bottom * height) - max(row, top * height))
                across = max(0.0, min(column + 1, right * width) - max(column, left * width))
                cells[row][column] = max(cells[row][column], down * across)
    return cells


def loss_by_hand(
    attention: torch.Tensor, words: int, boxes: list[list[float]], scales: int
) -> float:
    """One row, (layers, h, T, M), on a 4 x 6 grid."""
    cells = covered_by_hand(boxes, 4, 6)
    mass = 0.0
    for block, (top, left, bottom, right) in enumerate(block_boxes(scales, 4, 6).tolist()):
        area = [(row, column) for row in range(top, bottom) for column in range(left, right)]
        share = sum(cells[row][column] for row, column in area) / len(area)
        mass += float(attention[:, :, :words, block].double().mean()) * share
    return -math.log(mass)


BOX = st.tuples(*[st.floats(0, 0.45)] * 2, *[st.floats(0.5, 1)] * 2).map(list)


@given(st.lists(st.lists(BOX, min_size=1, max_size=3), min_size=1, max_size=3), st.integers(0, 99))
def test_the_loss_equals_the_one_by_hand(boxes: list[list[list[float]]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(boxes), 2, 3, 5, count_blocks(3), generator=generator)
    attention = scores.softmax(-1)
    words = [1 + (seed + row) % 5 for row in range(len(boxes))]
    mask = torch.arange(7)[None] < torch.tensor(words)[:, None]
    padded = torch.zeros(len(boxes), 3, 4)
    for row, own in zip(padded, boxes, strict=True):
        row[: len(own)] = torch.tensor(own)
    found = outside_boxes(attention, mask, padded, 3, (4, 6))
    wanted = [loss_by_hand(*each, 3) for each in zip(attention, words, boxes, strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_a_box_around_everything_costs_nothing_and_rows_without_one_do_not_count() -> None:
    attention = torch.rand(2, 1, 1, 3, count_blocks(2)).softmax(-1)
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    assert has_box(boxes).tolist() == [True, False]
    assert int(ATT.count({"boxes": boxes})) == 1
    loss = outside_boxes(attention, torch.ones(2, 3), boxes, 2, (4, 4))
    torch.testing.assert_close(loss[0], torch.tensor(0.0), atol=1e-6, rtol=0)
    assert loss[1] == 0


def test_attention_that_misses_the_box_altogether_has_a_finite_loss() -> None:
    scores = torch.zeros(1, 1, 1, 1, count_blocks(2), requires_grad=True)
    far = torch.zeros(count_blocks(2)).index_fill(
        0, torch.tensor([4]), 1e4
    )  # the lower right block
    boxes = torch.tensor([[[0.0, 0.0, 0.25, 0.25]]])
    loss = outside_boxes((scores + far).softmax(-1), torch.ones(1, 1), boxes, 2, (4, 4))
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_mixed_precision_does_not_reach_the_loss() -> None:
    attention = torch.randn(2, 2, 3, 4, count_blocks(3)).softmax(-1)
    arguments = (attention, torch.ones(2, 4), torch.tensor([[[0.1, 0.2, 0.4, 0.3]]] * 2), 3, (8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = outside_boxes(*arguments)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, outside_boxes(*arguments))


def test_overlapping_boxes_cover_a_cell_once() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]])
    assert covered_cells(boxes, 2, 2).tolist() == [[[1, 0], [0, 0]]]
    assert block_areas(2, 2, 2).shape == (5, 4)
