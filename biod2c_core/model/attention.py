"""The attention inside the fusion decoder of Eq. (1), and questions that share the keys of their image.

Notation used for tensor shapes:

- B: batch, T: queries, M: keys, D: width, h: heads
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.ops.dropout import dropout


class QuestionGroups(NamedTuple):
    """Questions about one image side by side, so that they read its keys and values in place.

    Attributes:
        rows: (groups,), the image of each group; None where group i is about image i.
        slots: (B,), the place of each question among the ``groups * size``.
        groups: How many groups there are.
        size: Most questions of a group.
    """

    rows: Tensor | None
    slots: Tensor
    groups: int
    size: int

    def gather(self, queries: Tensor) -> Tensor:
        """(B, T, D) to (groups, size * T, D), zeros where a group is not full."""
        placed = queries.new_zeros(self.groups * self.size, *queries.shape[1:])
        placed = placed.index_copy(0, self.slots, queries)
        return placed.unflatten(0, (self.groups, self.size)).flatten(1, 2)

    def release(self, grouped: Tensor) -> Tensor:
        """(groups, size * T, ...) to (B, T, ...)."""
        placed = grouped.unflatten(1, (self.size, -1)).flatten(0, 1)
        return placed.index_select(0, self.slots)


def group_questions(rows: Tensor, images: int) -> QuestionGroups:
    """Put questions into groups of one image each; an image with many of them has several groups.

    Args:
        rows: (B,), the image of each question, in [0, images).
        images: How many images there are.
    """
    size = -(-len(rows) // images)  # the mean: no more than half of the places stay empty
    counts = rows.bincount(minlength=images)
    order = rows.argsort(stable=True)
    nth = torch.empty_like(rows)
    nth[order] = (
        torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows[order]]
    )
    groups = (counts + size - 1) // size
    first = groups.cumsum(0) - groups
    slots = (first[rows] + nth // size) * size + nth % size
    total = int(groups.sum())
    in_place = total == images and bool((groups == 1).all())
    owners = torch.arange(images, device=rows.device).repeat_interleave(groups)
    return QuestionGroups(None if in_place else owners, slots, total, size)


Score = Callable[[Tensor, Tensor], Tensor]


def scaled_dot_product(queries: Tensor, keys: Tensor) -> Tensor:
    """Q k^T / sqrt(D / h), (B, h, T, M), of queries (B, h, T, D / h) and keys (B, h, M, D / h)."""
    return queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5


def attend(
    attention: nn.MultiheadAttention,
    queries: Tensor,
    memory: Tensor,
    padding: Tensor | None = None,
    rows: Tensor | None = None,
    score: Score = scaled_dot_product,
) -> tuple[Tensor, Tensor]:
    """Multi-head attention with the weights of ``attention``, written out.

    The queries are few (at most V), so the (T, M) weights are small; the fused kernels that avoid
    them are several times slower here, their backward on the CPU above all.

    Args:
        attention: Holds the weights and the dropout.
        queries: (B, T, D).
        memory: (B, M, D); or (images, M, D) with ``rows``.
        padding: (B, M), true where a key must not be attended to.
        rows: (B,), the row of ``memory`` that each row of queries attends to, by default its own.
        score: Compares queries with keys; its softmax gives the attention weights.

    Returns:
        (B, T, D) and the attention weights before dropout, (B, h, T, M).
    """
    heads = attention.num_heads
    parts = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    q, k, v = (
        F.linear(each, *part).unflatten(-1, (heads, -1)).transpose(1, 2)
        for each, part in zip((queries, memory, memory), parts, strict=True)
    )
    if rows is not None:
        k, v = k.index_select(0, rows), v.index_select(0, rows)
    scores = score(q, k)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None, :], float("-inf"))
    weights = scores.softmax(-1)
    mixed = dropout(weights, attention.dropout, attention.training) @ v
    return attention.out_proj(mixed.transpose(1, 2).flatten(2)), weights
