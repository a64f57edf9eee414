"""Dropout whose mask is drawn from few random words: on a CPU, drawing it costs more than using it.

``torch.nn.functional.dropout`` draws a number of its own for each element there. Here a word of 64
random bits decides for four elements, 16 bits each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 2**16  # values of the random number of an element


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Set each element to zero with a probability, and scale the others by the inverse of what is left.

    On a CPU the probability is rounded to a multiple of 2^-16, and the scale is that of the rounded one,
    so that the expectation is x. Elsewhere it is torch's own dropout.

    Args:
        x: Any shape, any floating type.
        probability: From 0 to below 1.
        training: False gives ``x`` itself.

    Returns:
        As ``x``.
    """
    if not x.is_cpu:
        return F.dropout(x, probability, training)
    kept = round((1 - probability) * _LEVELS)
    if not training or kept == _LEVELS:
        return x
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
    mask = (drawn < kept - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / kept)
    return x * mask  # one product, here and backward


class Dropout(nn.Dropout):
    """:func:`dropout` as a module."""

    def forward(self, input: Tensor) -> Tensor:
        """See :func:`dropout`."""
        return dropout(input, self.p, self.training)
