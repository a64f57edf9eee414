"""From attention weights to maps over the grid: plain functions of tensors.

Notation used for tensor shapes:

- M: blocks of all scales, V: visual tokens, T: question tokens, H, W: rows and columns of the grid
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from biod2c_core.errors import InputError
from biod2c_core.model.beyond.attention_guidance import block_areas
from biod2c_core.ops.multi_scale_pool import count_blocks


def choose_scales(scales: int, chosen: Collection[int] | None) -> Tensor:
    """Which of the M blocks belong to the chosen scales.

    Args:
        scales: S.
        chosen: Numbers from 1 (the whole image) to S; None for all.

    Returns:
        (M,), bool.

    Raises:
        InputError: A chosen scale does not exist.
    """
    wanted = check_choice("scale", chosen, range(1, scales + 1))
    return torch.cat(
        [torch.full((4 ** (scale - 1),), scale in wanted) for scale in range(1, scales + 1)]
    )


def check_choice(what: str, chosen: Collection[int] | None, known: range) -> list[int]:
    """The chosen numbers, or all of them for None.

    Raises:
        InputError: Nothing is chosen, or a number does not exist.
    """
    if chosen is None:
        return list(known)
    if not chosen or not set(chosen) <= set(known):
        raise InputError(
            f"{what}s {sorted(chosen)} of the attention are not all there",
            f"Choose of {known.start} to {known.stop - 1}.",
        )
    return sorted(set(chosen))


def spread_blocks(
    weights: Tensor, scales: int, grid: tuple[int, int], chosen: Collection[int] | None = None
) -> Tensor:
    """Lay the weights of blocks on the grid, each spread evenly over its block's cells.

    Args:
        weights: (..., M), not negative.
        scales: S.
        grid: H and W.
        chosen: Scales to keep; None keeps all.

    Returns:
        (..., H, W), float64, each map with sum 1 (all equal where there is no weight at all).

    Raises:
        InputError: The weights are not those of S scales, or a chosen scale does not exist.
    """
    if weights.shape[-1] != count_blocks(scales):
        raise InputError(
            f"{weights.shape[-1]} weights do not fit {scales} scales, "
            f"which have {count_blocks(scales)} blocks"
        )
    kept = weights.double() * choose_scales(scales, chosen).to(weights.device)
    cells = kept @ block_areas(scales, *grid).to(weights.device)
    return normalize(cells.unflatten(-1, grid))


def normalize(maps: Tensor) -> Tensor:
    """Scale maps (..., H, W) to sum 1; a map without any weight becomes even."""
    total = maps.sum((-2, -1), keepdim=True)
    even = 1 / (maps.shape[-2] * maps.shape[-1])
    return torch.where(total > 0, maps / total.clamp(min=torch.finfo(maps.dtype).tiny), even)


def choose_layers(
    weights: Tensor, layers: Collection[int] | None = None, heads: Collection[int] | None = None
) -> Tensor:
    """Average the chosen layers and heads.

    Args:
        weights: (layers, heads, ...).
        layers: Numbers from 1 (next to the input); None for all.
        heads: Numbers from 1; None for all.

    Returns:
        (...), the average.

    Raises:
        InputError: A layer or head does not exist.
    """
    rows = check_choice("layer", layers, range(1, weights.shape[0] + 1))
    columns = check_choice("head", heads, range(1, weights.shape[1] + 1))
    chosen = weights[[row - 1 for row in rows]][:, [column - 1 for column in columns]]
    return chosen.mean((0, 1))


def trace_tokens(language: Tensor, resampled: Tensor, grid: tuple[int, int]) -> Tensor:
    """Follow attention to visual tokens on to the cells that the resampler made them from.

    Args:
        language: Attention of the language model to the visual tokens, (..., V).
        resampled: Attention of the resampler's queries to the cells, (V, H * W).
        grid: H and W.

    Returns:
        (..., H, W), float64, each map with sum 1.
    """
    return normalize((language.double() @ resampled.double()).unflatten(-1, grid))
