"""What lies beside what: against sums written out cell by cell."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from biod2c_core.model.beyond.attention_readout import AttentionReadout
from biod2c_core.model.beyond.neighbours import NeighbourMixing

D = 24


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 5))
def test_mixing_adds_what_lies_in_and_around_each_cell(seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    mixing = NeighbourMixing(D)
    mixing.mix.reset_parameters()
    grid = random(seed, 2, height, width, D)
    kernel, bias = mixing.neighbours.weight.double(), mixing.neighbours.bias.double()
    wanted = torch.empty(2, height, width, D, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            around = bias.expand(2, D)
            for y in range(max(0, row - 1), min(height, row + 2)):
                for x in range(max(0, column - 1), min(width, column + 2)):
                    weight = kernel[:, :, y - row + 1, x - column + 1]
                    around = around + grid[:, y, x].double() @ weight.T
            added = around.clamp(min=0) @ mixing.mix.weight.double().T + mixing.mix.bias.double()
            wanted[:, row, column] = grid[:, row, column] + added
    torch.testing.assert_close(mixing.before_pooling(grid).double(), wanted, atol=1e-5, rtol=1e-4)


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 4), st.booleans())
def test_reading_sums_up_what_lies_under_and_around_the_map(
    seed: int, side: int, shared: bool
) -> None:
    torch.manual_seed(seed)
    reading = AttentionReadout(D, side, 0.0)
    reading.read.reset_parameters()
    spare = 5  # blocks of coarser scales, which stay out
    blocks = random(seed, 2, spare + side * side, D)
    attention = random(seed + 1, 3, 2, 4, 6, spare + side * side).softmax(-1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()
    rows = torch.tensor([1, 0, 1])
    given = (blocks, rows) if shared else (blocks[rows], None)
    got = reading(given[0], attention, mask, given[1])
    for question in range(3):
        weights = attention[question, :, :, mask[question], spare:].double().mean((0, 1, 2))
        weights = (weights / weights.sum()).view(side, side)
        seen = blocks[rows[question], spare:].double()
        seen = (seen - seen.mean(-1, keepdim=True)) / seen.var(-1, False, keepdim=True).sqrt()
        seen = seen.view(side, side, D)
        patch = torch.zeros(3, 3, D, dtype=torch.float64)
        for y in range(side):
            for x in range(side):
                for down in (-1, 0, 1):
                    for right in (-1, 0, 1):
                        if 0 <= y + down < side and 0 <= x + right < side:
                            found = weights[y, x] * seen[y + down, x + right]
                            patch[down + 1, right + 1] += found
        weight, bias = reading.around.weight.double(), reading.around.bias.double()
        hidden = (weight @ patch.flatten() + bias).clamp(min=0)
        wanted = reading.read.weight.double() @ hidden + reading.read.bias.double()
        torch.testing.assert_close(got[question].double(), wanted, atol=1e-4, rtol=1e-3)
