"""Where the blocks and cells of the grid lie, added to their features as a code (not in the paper)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from biod2c_core.model.beyond.extension import Extension
from biod2c_core.model.fusion import FeatureFusion
from biod2c_core.ops.multi_scale_pool import block_boxes


def encode_boxes(boxes: Tensor, height: int, width: int, channels: int) -> Tensor:
    """Sine-cosine code of where each region of the grid lies and how large it is.

    The fusion decoder sees the blocks as an unordered set; without this, only what zero padding
    leaks into the features tells left from right.

    Args:
        boxes: (M, 4), top, left, bottom, right in cells.
        height: Rows of the grid.
        width: Columns of the grid.
        channels: D.

    Returns:
        (M, D), float32: a third each for the centre's row, its column and the logarithm of the
        size; channels that are left over are zero.
    """
    top, left, bottom, right = boxes.float().unbind(-1)
    row = (top + bottom) / 2 / height
    column = (left + right) / 2 / width
    size = ((bottom - top) * (right - left) / (height * width)).log2() / -10
    pairs = channels // 6
    frequencies = math.pi * torch.logspace(0, math.log2(32), pairs, base=2, device=boxes.device)
    codes = [
        torch.cat([(value[:, None] * frequencies).sin(), (value[:, None] * frequencies).cos()], -1)
        for value in (row, column, size)
    ]
    return F.pad(torch.cat(codes, -1), (0, channels - 6 * pairs))


@lru_cache(maxsize=8)
def block_positions(
    height: int, width: int, channels: int, scales: int, device: torch.device
) -> Tensor:
    """:func:`encode_boxes` of the M blocks of all scales, (M, D)."""
    return encode_boxes(block_boxes(scales, height, width).to(device), height, width, channels)


@lru_cache(maxsize=8)
def cell_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """:func:`encode_boxes` of the single cells of the grid, (N * N, D)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([rows, columns, rows + 1, columns + 1], -1).flatten(0, 1)
    return encode_boxes(cells.to(device), height, width, channels)


class PositionCodes(Extension):
    """Adds :func:`encode_boxes` to what the decoder attends to. It holds no weights.

    Args:
        grid: Rows and columns of the grid.
        scales: S.
    """

    attribute: ClassVar[str] = "positions"

    def __init__(self, grid: tuple[int, int], scales: int) -> None:
        super().__init__()
        self.grid = grid
        self.scales = scales

    @classmethod
    def build(cls, fusion: FeatureFusion) -> PositionCodes:
        """For the grid of a fusion module."""
        return cls(fusion.grid, fusion.scales)

    def after_pooling(self, blocks: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Add the codes to the blocks, (B, M, D), and to the cells, (B, N * N, D)."""
        shape = (*self.grid, cells.shape[-1])
        blocks = blocks + block_positions(*shape, self.scales, blocks.device).to(blocks.dtype)
        return blocks, cells + cell_positions(*shape, cells.device).to(cells.dtype)
