"""Dropout: the shares, the scale and the gradients of its definition, and masks that a seed repeats."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.ops.dropout import Dropout, dropout


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), min_size=0, max_size=4),
    probability=st.floats(0, 0.99),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_each_element_is_zero_or_scaled(
    shape: list[int], probability: float, seed: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_()
    y = dropout(x, probability, training=True)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    scale = torch.tensor(65536 / round((1 - probability) * 65536)).to(dtype)
    kept = y != 0
    torch.testing.assert_close(y[kept], (x * scale)[kept])
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[kept], scale.expand_as(x)[kept])
    assert not x.grad[~kept & (x != 0)].any()


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_probability_is_met(probability: float) -> None:
    """Within five standard errors; so are the pairs of neighbours that share a random word."""
    torch.manual_seed(0)
    number = 400_000
    zero = dropout(torch.ones(number), probability, training=True) == 0
    error = math.sqrt(probability * (1 - probability) / number)
    assert abs(float(zero.double().mean()) - probability) < 5 * error
    for shift in (1, 2, 3):
        both = float((zero[::4] & zero[shift::4]).double().mean())
        assert abs(both - probability**2) < 5 * math.sqrt(probability**2 / (number / 4))


def test_a_seed_repeats_the_mask() -> None:
    x = torch.randn(3, 5, 7)
    torch.manual_seed(3)
    first = dropout(x, 0.5, training=True)
    other = dropout(x, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, training=True), first)
    assert not torch.equal(first, other)


def test_nothing_is_dropped_outside_training_or_with_probability_zero() -> None:
    x = torch.randn(4, 4)
    assert Dropout(0.5).eval()(x) is x
    assert dropout(x, 0.0, training=True) is x
    assert (Dropout(0.5).train()(torch.ones(1000)) == 0).any()
