"""The grids of a pyramid and the steps between them, as views and elementwise torch ops.

The blocks of scale s are unions of 2 x 2 blocks of scale s + 1 (`block_edges`), so their maximum and
sum follow from four blocks instead of all their cells. The pyramid starts at the finest scale that
the map can hold, even where fewer are asked for: its blocks are then one or two cells wide, and every
step is a handful of elementwise ops along contiguous channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from biod2c_core.ops.multi_scale_pool.geometry import block_edges
from biod2c_core.ops.multi_scale_pool.reference import accumulation_dtype


class Bins:
    """One axis of a map, cut into runs of cells.

    Args:
        edges: First cell of each run, and the end of the last; the first is 0.
    """

    def __init__(self, edges: Sequence[int]) -> None:
        self.edges = edges
        self.sizes = [end - start for start, end in pairwise(edges)]
        self.uniform = min(self.sizes) == max(self.sizes)  # so that runs can be had as views

    def nth_cells(self, cells: Tensor, axis: int, n: int) -> Tensor:
        """Cell n of each run, the last one where a run has fewer."""
        if self.uniform:
            return cells[(slice(None),) * axis + (slice(n, None, self.sizes[0]),)]
        picked = [min(start + n, end - 1) for start, end in pairwise(self.edges)]
        return cells.index_select(axis, torch.tensor(picked, device=cells.device))

    def maximum(self, cells: Tensor, axis: int) -> Tensor:
        """The maximum of each run; a NaN stays a NaN."""
        result = self.nth_cells(cells, axis, 0)
        for n in range(1, max(self.sizes)):
            result = torch.maximum(result, self.nth_cells(cells, axis, n))
        return result

    def total(self, cells: Tensor, axis: int) -> Tensor:
        """The sum of each run."""
        result = self.nth_cells(cells, axis, 0)
        for n in range(1, max(self.sizes)):
            term = self.nth_cells(cells, axis, n)
            if not self.uniform:
                present = torch.tensor([size > n for size in self.sizes], device=cells.device)
                term = torch.where(present.view(-1, *[1] * (cells.ndim - axis - 1)), term, 0)
            result = result + term
        return result

    def owners(self, device: torch.device) -> Tensor:
        """For each cell, the run it belongs to."""
        runs = [run for run, size in enumerate(self.sizes) for _ in range(size)]
        return torch.tensor(runs, device=device)


@dataclass(frozen=True)
class Step:
    """From a grid of cells to a coarser grid of blocks, for tensors (B, rows, columns, D)."""

    rows: Bins
    columns: Bins

    @property
    def trivial(self) -> bool:
        """Whether each block is one cell."""
        return max(self.rows.sizes) == max(self.columns.sizes) == 1

    @property
    def uniform(self) -> bool:
        """Whether all blocks have the same size."""
        return self.rows.uniform and self.columns.uniform

    def maximum(self, cells: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, h, w, D), the maximum of each block."""
        return self.columns.maximum(self.rows.maximum(cells, 1), 2)

    def total(self, cells: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, h, w, D), the sum of each block."""
        return self.columns.total(self.rows.total(cells, 1), 2)

    def split(self, cells: Tensor) -> Tensor:
        """A view of the cells that `spread` blocks broadcast against."""
        if not self.uniform:
            return cells
        images, _, _, channels = cells.shape
        rows, columns = self.rows.sizes, self.columns.sizes
        return cells.view(images, len(rows), rows[0], len(columns), columns[0], channels)

    def spread(self, blocks: Tensor) -> Tensor:
        """The blocks so that each broadcasts against its cells in `split`."""
        if self.uniform:
            return blocks.unsqueeze(2).unsqueeze(4)
        rows = blocks.index_select(1, self.rows.owners(blocks.device))
        return rows.index_select(2, self.columns.owners(blocks.device))


class Pyramid:
    """The scales of a map of one size.

    Args:
        features: (B, H, W, D).
        scales: S, how many scales the result has.
    """

    def __init__(self, features: Tensor, scales: int) -> None:
        height, width = int(features.shape[1]), int(features.shape[2])
        self.scales = scales
        self.finest = min(height, width).bit_length()
        self.dtype = accumulation_dtype(features.dtype)
        parts = 2 ** (self.finest - 1)
        self._first_step = Step(Bins(block_edges(height, parts)), Bins(block_edges(width, parts)))
        self._shares = [self._share(height, width, 2**s, features.device) for s in range(scales)]

    def _share(self, height: int, width: int, parts: int, device: torch.device) -> Tensor | float:
        if height % parts == width % parts == 0:
            return parts**2 / (height * width)
        rows, columns = (Bins(block_edges(cells, parts)).sizes for cells in (height, width))
        sizes = torch.tensor(rows, dtype=self.dtype)[:, None] * torch.tensor(columns)
        return sizes.reciprocal().to(device)[None, :, :, None]

    def share(self, scale: int) -> Tensor | float:
        """What one cell counts in the mean of its block; (1, 2^(s-1), 2^(s-1), 1) if that differs."""
        return self._shares[scale - 1]

    def pooled(
        self, scale: int, maximum: Tensor, total: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """Maximum + mean of the blocks of one scale, (B, 2^(s-1), 2^(s-1), D) each."""
        share = self.share(scale)
        if isinstance(share, float):
            return torch.add(maximum, total, alpha=share, out=out)
        return torch.addcmul(maximum, total, share, out=out)

    def step_to(self, scale: int) -> Step:
        """The step to the blocks of ``scale`` from the next finer ones, each of 2 x 2.

        At the finest scale it is the step from the cells.
        """
        if scale == self.finest:
            return self._first_step
        halves = Bins(range(0, 2**scale + 1, 2))
        return Step(halves, halves)


def split_scales(pooled: Tensor, scales: int) -> list[Tensor]:
    """The blocks of each scale of (B, M, D), as views (B, 2^(s-1), 2^(s-1), D)."""
    parts = pooled.split([4**scale for scale in range(scales)], dim=1)
    return [part.unflatten(1, (2**scale, -1)) for scale, part in enumerate(parts)]
