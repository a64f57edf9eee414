"""Multi-scale pooling in torch ops on the `pyramid`: every scale from the finer one, forward and back.

The map goes through in chunks of images that stay in the cache, each written straight to its place in
the result. Under ``torch.compile`` each pass is one operator, which runs the same steps compiled, chunk
by chunk: in the graph of the model around it, every step would cross the whole map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biod2c_core.ops.multi_scale_pool.geometry import count_blocks
from biod2c_core.ops.multi_scale_pool.pyramid import Pyramid, Step, split_scales
from biod2c_core.ops.multi_scale_pool.reference import accumulation_dtype

CHUNK_BYTES = 4 * 1024 * 1024  # of a map in the dtype of the sums, for each thread


def multi_scale_pool_cpu(features: Tensor, scales: int, out: Tensor | None = None) -> Tensor:
    """Max + mean of every block at every scale, by the pyramid; any device, made for the CPU.

    Args:
        features: (B, H, W, D), float16, bfloat16, float32 or float64, any strides.
        scales: S; 2^(S-1) is at most min(H, W).
        out: (B, M, D) to write to; only where no gradient is needed.

    Returns:
        (B, M, D) in the dtype of ``features``, as of the reference; sums are float32 or float64.
    """
    if torch.is_grad_enabled() and features.requires_grad:
        return _MultiScalePool.apply(features, scales)
    return _pool(features, scales, out)


class _MultiScalePool(torch.autograd.Function):
    """The pyramid with a gradient that shares a tied maximum evenly; keeps only the map."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, scales: int) -> Tensor:
        """(B, H, W, D) -> (B, M, D)."""
        ctx.save_for_backward(features)
        ctx.scales = scales
        return _pool(features, scales, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """(B, M, D) -> (B, H, W, D)."""
        (features,) = ctx.saved_tensors
        result = torch.empty_like(features)
        if torch.compiler.is_compiling():
            _pool_backward_op(features, grad, result, ctx.scales)
        else:
            _in_chunks(_pool_chunk_backward, features, result, *split_scales(grad, ctx.scales))
        return result, None


def _pool(features: Tensor, scales: int, out: Tensor | None) -> Tensor:
    if torch.compiler.is_exporting():  # plain ops, for runtimes that have no others
        pyramid = Pyramid(features, scales)
        blocks = [pyramid.pooled(*level).flatten(1, 2) for level in _climb(pyramid, features)]
        return torch.cat(blocks[::-1], dim=1).to(features.dtype)
    if out is None:
        out = features.new_empty((features.shape[0], count_blocks(scales), features.shape[3]))
    if torch.compiler.is_compiling():
        _pool_op(features, out, scales)
    else:
        _in_chunks(_pool_chunk, features, *split_scales(out, scales))
    return out


@torch.library.custom_op("biod2c::multi_scale_pool_cpu", mutates_args={"out"})
def _pool_op(features: Tensor, out: Tensor, scales: int) -> None:
    _in_chunks(_compiled(_pool_chunk), features.detach(), *split_scales(out, scales))


@torch.library.custom_op("biod2c::multi_scale_pool_cpu_backward", mutates_args={"result"})
def _pool_backward_op(features: Tensor, grad: Tensor, result: Tensor, scales: int) -> None:
    run = _compiled(_pool_chunk_backward)
    _in_chunks(run, features.detach(), result, *split_scales(grad, scales))


@_pool_op.register_fake
def _(features: Tensor, out: Tensor, scales: int) -> None:
    return None


@_pool_backward_op.register_fake
def _(features: Tensor, grad: Tensor, result: Tensor, scales: int) -> None:
    return None


@cache
def _compiled(run: Callable[..., object]) -> Callable[..., object]:
    return torch.compile(run, dynamic=False)


def _in_chunks(run: Callable[..., object], features: Tensor, *others: Tensor) -> None:
    """Run on a few images at a time, as many as stay in the cache; on a GPU on all at once."""
    images, *size = features.shape
    together = images
    if features.device.type == "cpu":
        image_bytes = math.prod(size) * accumulation_dtype(features.dtype).itemsize
        together = CHUNK_BYTES * torch.get_num_threads() // max(1, image_bytes)
    for chunk in zip(*(t.split(max(1, together)) for t in (features, *others)), strict=True):
        run(*chunk)


def _pool_chunk(features: Tensor, *targets: Tensor) -> None:
    """(b, H, W, D) to the blocks of each scale, (b, k, k, D), written to ``targets``."""
    pyramid = Pyramid(features, len(targets))
    for scale, maximum, total in _climb(pyramid, _load(features)):
        target = targets[scale - 1]
        if torch.compiler.is_compiling() or target.dtype != total.dtype:
            target.copy_(pyramid.pooled(scale, maximum, total))
        else:
            pyramid.pooled(scale, maximum, total, out=target)


def _climb(pyramid: Pyramid, cells: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Scale, maximum and sum of its blocks, from the finest scale of the result to scale 1.

    Blocks of one cell stay in the dtype of the map: their maximum + mean needs no more.
    """
    maximum = total = cells
    for scale in range(pyramid.finest, 0, -1):
        step = pyramid.step_to(scale)
        if not step.trivial:
            maximum = step.maximum(maximum).to(pyramid.dtype)
            total = step.total(total.to(pyramid.dtype))
        if scale <= pyramid.scales:
            yield scale, maximum, total


class _Level(NamedTuple):
    """The blocks of one scale, (b, k, k, d), and which cells of the next finer grid are their maxima."""

    scale: int
    step: Step
    maximum: Tensor
    ties: Tensor  # how many cells of the map reach the maximum
    reaches: Tensor  # 1 where the finer grid, as the step splits it, does, else 0


def _pool_chunk_backward(features: Tensor, result: Tensor, *grads: Tensor) -> list[Tensor]:
    """Write the gradient of (b, H, W, D) to ``result``, from that of each scale, (b, k, k, d).

    A cell gets dL/dx = sum over the blocks around it of g / (cells of the block) + [x is the
    block's maximum] g / (cells that reach it). The first term adds up down the pyramid; the second
    passes to those of the four finer blocks whose maximum is the coarser block's. A block with a
    NaN has no cell that equals its maximum; 0 / 0 then makes NaN of it, as in the reference.

    Returns:
        What the compiler is to keep: it computes anew, for every use, what is not returned.
    """
    pyramid = Pyramid(features, len(grads))
    levels = _climb_ties(pyramid, _load(features))
    own = grads[0].to(pyramid.dtype)
    mean_part, max_part = own * pyramid.share(1), own / levels[-1].ties
    for level, finer in pairwise(reversed(levels)):
        mean_part, max_part = level.step.spread(mean_part), level.step.spread(max_part)
        if finer.scale <= pyramid.scales:
            own = grads[finer.scale - 1].to(pyramid.dtype)
            mean_part = mean_part + level.step.split(own * pyramid.share(finer.scale))
            max_part = torch.addcmul(level.step.split(own / finer.ties), max_part, level.reaches)
        else:
            mean_part = mean_part.expand_as(level.reaches)
            max_part = max_part * level.reaches
        mean_part = mean_part.reshape(finer.ties.shape)
        max_part = max_part.reshape(finer.ties.shape)
    _hand_to_cells(levels[0], mean_part, max_part, grads, result)
    return [mean_part, max_part, *(t for level in levels for t in (level.maximum, level.ties))]


def _climb_ties(pyramid: Pyramid, cells: Tensor) -> list[_Level]:
    """The levels from the finest one whose blocks are more than a cell to scale 1."""
    levels: list[_Level] = []
    for scale in range(pyramid.finest, 0, -1):
        step = pyramid.step_to(scale)
        if scale > 1 and step.trivial:
            continue
        maximum = step.maximum(cells)
        reaches = _equal(step.split(cells), step.spread(maximum))
        weight = step.split(levels[-1].ties) if levels else None
        if torch.compiler.is_compiling() and step.uniform:
            ties = _count_ties(step.split(cells), maximum, weight)
        else:
            weighed = reaches if weight is None else reaches * weight
            ties = step.total(weighed.reshape(cells.shape))
        cells = maximum.to(pyramid.dtype)
        levels.append(_Level(scale, step, cells, ties, reaches))
    return levels


def _count_ties(cells: Tensor, maximum: Tensor, weight: Tensor | None) -> Tensor:
    """The sum of ``weight`` over cells that equal their maximum, compared once more.

    What is compared for more than this would be stored, cell by cell.
    """
    ties = torch.zeros_like(maximum, dtype=accumulation_dtype(maximum.dtype))
    for row, column in product(range(cells.shape[2]), range(cells.shape[4])):
        tie = _equal(cells[:, :, row, :, column], maximum)
        ties = ties + (tie if weight is None else tie * weight[:, :, row, :, column])
    return ties


def _hand_to_cells(
    level: _Level, mean_part: Tensor, max_part: Tensor, grads: tuple[Tensor, ...], result: Tensor
) -> None:
    """Write the sum of what the finest level hands down, and of what cells that are blocks get."""
    step = level.step
    mean_part, max_part = step.spread(mean_part), step.spread(max_part)
    compiling = torch.compiler.is_compiling()
    scratch = None if compiling else level.reaches
    direct = not compiling and result.stride(3) == 1 and result.dtype == mean_part.dtype
    out = step.split(result) if direct else scratch
    if level.scale < len(grads):  # they get it as their maximum and as their mean
        own = step.split(grads[level.scale].to(mean_part.dtype))
        max_part = torch.addcmul(own, max_part, level.reaches, value=0.5, out=scratch)
        gradient = torch.add(mean_part, max_part, alpha=2, out=out)
    else:
        gradient = torch.addcmul(mean_part, max_part, level.reaches, out=out)
    if not direct:
        _copy_map(result, gradient.reshape(result.shape))


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where ``a`` equals the broadcast ``b``, else 0, in the dtype of sums."""
    dtype = accumulation_dtype(a.dtype)
    if torch.compiler.is_compiling():
        return (a == b).to(dtype)
    same = torch.empty(a.shape, dtype=a.dtype, device=a.device)  # much faster than a bool
    return torch.eq(a, b, out=same).to(dtype)


def _load(cells: Tensor) -> Tensor:
    """A chunk with its channels contiguous; copied only where needed."""
    if cells.stride(3) == 1 or torch.compiler.is_compiling():
        return cells
    loaded = torch.empty(cells.shape, dtype=cells.dtype, device=cells.device)
    _copy_map(loaded, cells)
    return loaded


def _copy_map(target: Tensor, source: Tensor) -> None:
    """Copy (b, h, w, d) image by image as a matrix, which torch transposes several times faster."""
    flat = all(t.stride(1) == t.shape[2] * t.stride(2) for t in (target, source))
    if torch.compiler.is_compiling() or not flat or target.stride(3) == source.stride(3):
        target.copy_(source)
        return
    for to, cells in zip(target.flatten(1, 2), source.flatten(1, 2), strict=True):
        if to.stride(1) == 1:
            to.copy_(cells)
        else:
            to.t().copy_(cells.t())
