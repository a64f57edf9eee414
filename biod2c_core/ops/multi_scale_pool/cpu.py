"""Multi-scale pooling in torch ops on the `pyramid`: every scale from the finer one, forward and back.

The map goes through in chunks of images that stay in the cache, each written straight to its place in
the result. Under ``torch.compile`` each pass is one operator, which runs the same steps compiled, chunk
by chunk: in the graph of the model around it, every step would cross the whole map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biod2c_core.ops.multi_scale_pool.geometry import count_blocks
from biod2c_core.ops.multi_scale_pool.pyramid import Pyramid
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
            _in_chunks(_pool_chunk_backward, (features, grad, result), ctx.scales)
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
        _in_chunks(_pool_chunk, (features, out), scales)
    return out


@torch.library.custom_op("biod2c::multi_scale_pool_cpu", mutates_args={"out"})
def _pool_op(features: Tensor, out: Tensor, scales: int) -> None:
    _in_chunks(_compiled(_pool_chunk), (features.detach(), out), scales)


@torch.library.custom_op("biod2c::multi_scale_pool_cpu_backward", mutates_args={"result"})
def _pool_backward_op(features: Tensor, grad: Tensor, result: Tensor, scales: int) -> None:
    _in_chunks(_compiled(_pool_chunk_backward), (features.detach(), grad, result), scales)


@_pool_op.register_fake
def _(features: Tensor, out: Tensor, scales: int) -> None:
    return None


@_pool_backward_op.register_fake
def _(features: Tensor, grad: Tensor, result: Tensor, scales: int) -> None:
    return None


@cache
def _compiled(run: Callable[..., None]) -> Callable[..., None]:
    return torch.compile(run)


def _in_chunks(run: Callable[..., None], tensors: tuple[Tensor, ...], scales: int) -> None:
    """Run on a few images at a time, as many as stay in the cache; on a GPU on all at once."""
    images, *size = tensors[0].shape
    together = images
    if tensors[0].device.type == "cpu":
        image_bytes = math.prod(size) * accumulation_dtype(tensors[0].dtype).itemsize
        together = CHUNK_BYTES * torch.get_num_threads() // max(1, image_bytes)
    for chunk in zip(*(tensor.split(max(1, together)) for tensor in tensors), strict=True):
        run(*chunk, scales)


def _pool_chunk(features: Tensor, out: Tensor, scales: int) -> None:
    """(b, H, W, D) -> (b, M, D), written to ``out``."""
    pyramid = Pyramid(features, scales)
    for scale, maximum, total in _climb(pyramid, _load(features)):
        target = pyramid.blocks_of(out, scale)
        if torch.compiler.is_compiling() or target.dtype != total.dtype:
            target.copy_(pyramid.pooled(scale, maximum, total))
        else:
            pyramid.pooled(scale, maximum, total, out=target)


def _climb(pyramid: Pyramid, cells: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Scale, maximum and sum of its blocks, from the finest scale of the result to scale 1.

    Blocks of one cell stay in the dtype of the map; their maximum + mean is exact but for its rounding.
    """
    maximum = total = cells
    for scale in range(pyramid.finest, 0, -1):
        step = pyramid.step_to(scale)
        if not step.trivial:
            maximum = step.maximum(maximum).to(pyramid.dtype)
            total = step.total(total.to(pyramid.dtype))
        if scale <= pyramid.scales:
            yield scale, maximum, total


def _pool_chunk_backward(features: Tensor, grad: Tensor, result: Tensor, scales: int) -> None:
    """The gradient of (b, H, W, D) from that of (b, M, D), written to ``result``."""
    pyramid, cells = Pyramid(features, scales), _load(features)
    scale, own = pyramid.finest, None
    if scale > 1 and pyramid.step_to(scale).trivial:  # each cell is a block of the finest scale
        own = pyramid.blocks_of(grad, scale).to(pyramid.dtype) if scale <= scales else None
        scale -= 1
    step = pyramid.step_to(scale)
    maximum = step.maximum(cells)
    reaches = _equal(step.split(cells), step.spread(maximum)).to(pyramid.dtype)
    count = step.total(reaches.view_as(cells))
    parts = _descend(pyramid, scale, maximum.to(pyramid.dtype), count, grad)
    mean_part, max_part = map(step.spread, parts)
    direct = _goes_direct(result, reaches)
    out = step.split(result) if direct else None
    if own is None:
        gradient = torch.addcmul(mean_part, max_part, reaches, out=out)
    else:  # of a block of one cell, which has its gradient as maximum and as mean
        max_part = torch.addcmul(step.split(own), max_part, reaches, value=0.5)
        gradient = torch.add(mean_part, max_part, alpha=2, out=out)
    if not direct:
        _copy_map(result, gradient.view_as(result))


def _goes_direct(target: Tensor, values: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and target.stride(3) == 1
        and target.dtype == values.dtype
    )


def _descend(
    pyramid: Pyramid, scale: int, maximum: Tensor, count: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """What each block of a scale hands down to its cells, from this scale and all coarser ones.

    A cell gets dL/dx = sum over the blocks around it of g / (cells of the block) + [x is the
    block's maximum] g / (cells that reach it). The first term adds up down the pyramid; the second
    passes to those of the four finer blocks whose maximum is the coarser block's. A block with a
    NaN has no cell that equals its maximum; 0 / 0 then makes NaN of it, as in the reference.

    Args:
        pyramid: The scales.
        scale: The scale of ``maximum``.
        maximum: (b, k, k, d), the maximum of each block.
        count: (b, k, k, d), how many cells reach it.
        grad: (b, M, d), the gradient of the pooled blocks, all scales.

    Returns:
        (b, k, k, d) twice: the gradient for every cell, and for each cell that reaches the maximum.
    """
    mean_part = max_part = maximum.new_zeros(())
    shape = maximum.shape
    if scale > 1:
        step = pyramid.step_to(scale - 1)
        coarser = step.maximum(maximum)
        reaches = _equal(step.split(maximum), step.spread(coarser))
        counted = (reaches * step.split(count)).view(shape)
        parts = _descend(pyramid, scale - 1, coarser, step.total(counted), grad)
        mean_part = step.spread(parts[0]).expand_as(reaches).reshape(shape)
        max_part = (step.spread(parts[1]) * reaches).view(shape)
    if scale <= pyramid.scales:
        own = pyramid.blocks_of(grad, scale).to(maximum.dtype)
        mean_part = mean_part + own * pyramid.share(scale)
        max_part = max_part + own / count
    return mean_part, max_part


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where ``a`` equals the broadcast ``b``, else 0, in their dtype; much faster than a bool."""
    if torch.compiler.is_compiling():
        return (a == b).to(a.dtype)
    return torch.eq(a, b, out=torch.empty(a.shape, dtype=a.dtype, device=a.device))


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
