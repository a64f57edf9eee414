"""Rows of token ids of different length as one tensor. Light: worker processes import it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(rows: Sequence[Sequence[int]], fill: int, side: str = "right") -> tuple[Tensor, Tensor]:
    """Pad rows of ids to the longest.

    Args:
        rows: B rows of ids.
        fill: The id to pad with.
        side: ``"right"`` or ``"left"``.

    Returns:
        Ids and mask (1 where real), both (B, longest), int64.
    """
    longest = max((len(row) for row in rows), default=0)
    before = side == "left"
    padded, real = [], []  # one tensor of all rows: one a row takes seven times as long
    for row in rows:
        gap = longest - len(row)
        padded.append([fill] * gap + [*row] if before else [*row] + [fill] * gap)
        real.append([0] * gap + [1] * len(row) if before else [1] * len(row) + [0] * gap)
    shape = (len(rows), longest)
    return (
        torch.tensor(padded, dtype=torch.long).view(shape),
        torch.tensor(real, dtype=torch.long).view(shape),
    )
