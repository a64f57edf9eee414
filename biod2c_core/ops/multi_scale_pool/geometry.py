"""Which cells belong to which block: the geometry that all implementations share."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from biod2c_core.errors import InputError

MAX_AUTO_SCALES = 6  # the paper's S


class CellBox(NamedTuple):
    """A part of the grid in cells; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int


def block_edges(cells: int, parts: int) -> list[int]:
    """Cut ``cells`` cells into ``parts`` disjoint bins.

    Bin i spans cells ``floor(i * cells / parts)`` to ``floor((i + 1) * cells / parts)``. It is never
    empty while ``parts <= cells``, and each bin of ``parts`` is the union of two bins of
    ``2 * parts``, which is what lets a coarse scale be computed from the finer one.

    Args:
        cells: Rows or columns of the map.
        parts: Number of bins.

    Returns:
        The ``parts + 1`` edges, the first 0 and the last ``cells``.
    """
    return [i * cells // parts for i in range(parts + 1)]


def count_blocks(scales: int) -> int:
    """M, the number of blocks of all scales: the sum of 4^(s-1) for s = 1 .. ``scales``."""
    return (4**scales - 1) // 3


def resolve_scales(scales: int | Literal["auto"], height: int, width: int) -> int:
    """The number of scales S for a map, checked against its size.

    Args:
        scales: S, or ``"auto"`` for min(6, floor(log2(min(height, width))) + 1), the most that the
            paper's setting and the map allow.
        height: Rows of the map.
        width: Columns of the map.

    Raises:
        InputError: The map has no cells, ``scales`` is neither a positive integer nor ``"auto"``, or
            the finest scale would have more rows or columns of blocks than the map has cells.
    """
    short = min(height, width)
    if short < 1:
        raise InputError(f"a map of {height} x {width} cells has nothing to pool")
    most = short.bit_length()
    if scales == "auto":
        return min(MAX_AUTO_SCALES, most)
    if isinstance(scales, bool) or not isinstance(scales, int) or scales < 1:
        raise InputError(f"scales must be a positive integer or 'auto', got {scales!r}")
    if scales > most:
        raise InputError(
            f"scales={scales} needs a map of at least {2 ** (scales - 1)} x {2 ** (scales - 1)} cells, "
            f"got {height} x {width}",
            f"Use scales='auto' or scales <= {most}.",
        )
    return scales


def list_blocks(scales: int, height: int, width: int) -> list[CellBox]:
    """Where each block lies on the map.

    Args:
        scales: S.
        height: Rows of the map.
        width: Columns of the map.

    Returns:
        M boxes in the order of the pooled blocks: scale 1 first, row-major in each scale.

    Raises:
        InputError: As in `resolve_scales`.
    """
    boxes: list[CellBox] = []
    for scale in range(resolve_scales(scales, height, width)):
        rows, columns = block_edges(height, 2**scale), block_edges(width, 2**scale)
        boxes += [
            CellBox(top, left, bottom, right)
            for top, bottom in pairwise(rows)
            for left, right in pairwise(columns)
        ]
    return boxes


def block_boxes(scales: int, height: int, width: int) -> Tensor:
    """:func:`list_blocks` as a tensor, int64 (M, 4), a :class:`CellBox` a row."""
    return torch.tensor(list_blocks(scales, height, width), dtype=torch.int64)
