"""Attention guidance: the fusion decoder is shown where the answer is to be seen (not in the paper).

Nothing in equations 1 to 5 says where to look; a small model that only hears whether its answers are
right finds the way from words to places late or never. Where records say in which boxes the answer
is seen, the cross-attention of Eq. (1) can be drawn into them.

Notation used for tensor shapes:

- B: batch, T: question tokens, M: blocks of all scales, H, W: rows and columns of the grid, R: boxes
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from biod2c_core.model.equations import masked_mean
from biod2c_core.model.losses import Batch, ForwardPass, Loss
from biod2c_core.ops.multi_scale_pool import block_boxes

_LEAST = 1e-6  # attention that no longer counts: bounds the loss and its gradient


@lru_cache(maxsize=8)
def block_areas(scales: int, height: int, width: int) -> Tensor:
    """How a block's weight is shared by the cells of the grid: evenly by those it covers.

    Returns:
        (M, H * W), float64; each row sums to 1.
    """
    boxes = block_boxes(scales, height, width)
    areas = torch.zeros(len(boxes), height, width, dtype=torch.float64)
    for area, (top, left, bottom, right) in zip(areas, boxes.tolist(), strict=True):
        area[top:bottom, left:right] = 1 / ((bottom - top) * (right - left))
    return areas.flatten(1)


def covered_cells(boxes: Tensor, height: int, width: int) -> Tensor:
    """The share of each cell that lies in a box; where boxes overlap, in the one that covers most.

    Args:
        boxes: (B, R, 4), left, top, right, bottom in shares of the image from 0 to 1; a box
            without area covers nothing.
        height: H.
        width: W.

    Returns:
        (B, H, W), in the type of the boxes, from 0 to 1.
    """
    left, top, right, bottom = boxes.unbind(-1)
    down = _covered(top, bottom, height)
    across = _covered(left, right, width)
    return (down.unsqueeze(-1) * across.unsqueeze(-2)).amax(1)


def _covered(start: Tensor, end: Tensor, cells: int) -> Tensor:
    """The share of each of ``cells`` cells in a row that lies between start and end, (..., cells)."""
    edge = torch.arange(cells, device=start.device)
    start, end = start.unsqueeze(-1) * cells, end.unsqueeze(-1) * cells
    return (torch.minimum(edge + 1, end) - torch.maximum(edge, start)).clamp(min=0)


def outside_boxes(
    attention: Tensor, question_mask: Tensor, boxes: Tensor, scales: int, grid: tuple[int, int]
) -> Tensor:
    """-log of the share of the attention map that lies in the boxes.

    The map is that of ``biod2c attn-map``: the cross-attention averaged over layers, heads and the
    tokens of the question, each block's weight spread evenly over its cells. Computed in float32 whatever
    the step is computed in: small shares would be lost.

    Args:
        attention: Cross-attention, (B, layers, heads, T, M).
        question_mask: (B, at least T), true where a token is real.
        boxes: (B, R, 4), as in :func:`covered_cells`.
        scales: S.
        grid: H and W.

    Returns:
        Of each row, (B,), float32; zero where it has no box. L_att is the mean over the others.
    """
    with torch.autocast(attention.device.type, enabled=False):
        heads = attention.float().mean((1, 2))
        averaged = masked_mean(heads, question_mask[:, : heads.shape[1]])
        cells = covered_cells(boxes.float(), *grid).flatten(1)
        inside = cells @ block_areas(scales, *grid).to(cells).T
        losses = -(averaged * inside).sum(-1).clamp(min=_LEAST).log()
        return losses.where(has_box(boxes), 0)


def has_box(boxes: Tensor) -> Tensor:
    """Which rows have a box with an area, (B,), bool.

    Args:
        boxes: (B, R, 4).
    """
    return (boxes[..., 2:] > boxes[..., :2]).all(-1).any(-1)


def _count(batch: Batch) -> Tensor:
    return has_box(cast("Tensor", batch["boxes"])).sum()


def _total(passed: ForwardPass) -> Tensor | None:
    attention, fusion = passed.visual.attention, passed.fusion
    if attention is None:  # there is no fusion
        return None
    mask, boxes = (cast("Tensor", passed.batch[name]) for name in ("question_mask", "boxes"))
    return outside_boxes(attention, mask, boxes, fusion.scales, fusion.grid).sum()


def _no_box(batch: Batch) -> dict[str, Tensor]:
    labels = cast("Tensor", batch["labels"])
    return {"boxes": torch.zeros(len(labels), 1, 4, device=labels.device)}


ATT = Loss("att", _count, _total, needs=("boxes",), setting="attention_weight", stand_ins=_no_box)
