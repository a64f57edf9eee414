"""Weights to maps against cases computed by hand on a grid of 4 x 4."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.errors import InputError
from biod2c_core.inference.attention.maps import (
    block_areas,
    choose_layers,
    normalize,
    spread_blocks,
    trace_tokens,
)
from biod2c_core.ops.multi_scale_pool import count_blocks

# The whole image has weight .2 (.0125 a cell); the quadrants .4, .2, .1, .1 (a quarter a cell).
WEIGHTS = torch.tensor([0.2, 0.4, 0.2, 0.1, 0.1])
BY_HAND = torch.tensor(
    [
        [0.1125, 0.1125, 0.0625, 0.0625],
        [0.1125, 0.1125, 0.0625, 0.0625],
        [0.0375, 0.0375, 0.0375, 0.0375],
        [0.0375, 0.0375, 0.0375, 0.0375],
    ],
    dtype=torch.float64,
)


def test_two_scales_on_four_by_four_by_hand() -> None:
    torch.testing.assert_close(spread_blocks(WEIGHTS, 2, (4, 4)), BY_HAND, atol=1e-7, rtol=0)


def test_a_chosen_scale_by_hand() -> None:
    """The quadrants alone: .4, .2, .1, .1 of .8, a quarter of it a cell."""
    got = spread_blocks(WEIGHTS, 2, (4, 4), [2])
    assert got[0, 0].item() == pytest.approx(0.125)
    assert got[0, 3].item() == pytest.approx(0.0625)
    assert got[3, 0].item() == got[3, 3].item() == pytest.approx(0.03125)
    whole = spread_blocks(WEIGHTS, 2, (4, 4), [1])
    torch.testing.assert_close(whole, torch.full((4, 4), 1 / 16, dtype=torch.float64))


def test_three_scales_reach_single_cells() -> None:
    weights = torch.zeros(21)
    weights[5 + 2 * 4 + 3] = 1.0  # the finest scale, row 2, column 3
    got = spread_blocks(weights, 3, (4, 4))
    assert got[2, 3].item() == 1.0
    assert got.sum().item() == 1.0


def test_uneven_bins_share_by_their_own_area() -> None:
    """Five cells in two bins are two and three: a quarter each spreads over 4, 6, 6 and 9."""
    got = spread_blocks(torch.tensor([0.0, 0.25, 0.25, 0.25, 0.25]), 2, (5, 5))
    corners = [got[0, 0], got[0, 4], got[4, 0], got[4, 4]]
    assert [1 / each.item() for each in corners] == pytest.approx([16, 24, 24, 36])


@given(
    scales=st.integers(1, 4),
    extra=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 99),
)
def test_every_map_sums_to_one(scales: int, extra: tuple[int, int], seed: int) -> None:
    grid = (2 ** (scales - 1) + extra[0], 2 ** (scales - 1) + extra[1])
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, count_blocks(scales), generator=generator)
    maps = spread_blocks(weights, scales, grid)
    assert maps.shape == (3, *grid)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    assert (maps >= 0).all()
    torch.testing.assert_close(
        block_areas(scales, *grid).sum(1), torch.ones(count_blocks(scales), dtype=torch.float64)
    )


def test_no_weight_at_all_is_an_even_map() -> None:
    assert normalize(torch.zeros(2, 4, 4)).unique().tolist() == [1 / 16]


def test_layers_and_heads_are_chosen_and_averaged() -> None:
    weights = torch.tensor([[[1.0], [3.0]], [[5.0], [11.0]]])  # (2 layers, 2 heads, 1)
    assert choose_layers(weights).item() == 5.0
    assert choose_layers(weights, layers=[2]).item() == 8.0
    assert choose_layers(weights, heads=[1]).item() == 3.0
    assert choose_layers(weights, [1], [2]).item() == 3.0


@pytest.mark.parametrize("chosen", [[0], [3], [1, 9], []])
def test_a_layer_that_is_not_there_is_named(chosen: list[int]) -> None:
    with pytest.raises(InputError, match=r"Choose of 1 to 2"):
        choose_layers(torch.ones(2, 2, 1), layers=chosen)


def test_weights_of_another_number_of_scales_are_refused() -> None:
    with pytest.raises(InputError, match="5 weights do not fit 3 scales, which have 21 blocks"):
        spread_blocks(WEIGHTS, 3, (4, 4))


def test_tokens_are_traced_to_their_cells_by_hand() -> None:
    """.75 of the reading goes to a token made of cell 0, .25 to one made evenly of 0 and 3."""
    resampled = torch.tensor([[1.0, 0, 0, 0], [0.5, 0, 0, 0.5]])
    got = trace_tokens(torch.tensor([0.75, 0.25]), resampled, (2, 2))
    assert got.tolist() == [[0.875, 0.0], [0.0, 0.125]]
    # only what reaches the visual tokens counts: half of the reading gives the same map
    assert torch.equal(trace_tokens(torch.tensor([0.375, 0.125]), resampled, (2, 2)), got)
