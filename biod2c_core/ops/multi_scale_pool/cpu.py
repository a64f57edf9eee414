"""Multi-scale pooling in torch ops on the `pyramid`: every scale from the finer one, forward and back.

Eagerly the map goes through in chunks that stay in the cache, each written straight to its place in
the result. Under ``torch.compile`` there is one chunk, and the compiler fuses the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biod2c_core.ops.multi_scale_pool.geometry import count_blocks
from biod2c_core.ops.multi_scale_pool.pyramid import Pyramid

CHUNK_BYTES = 2 * 1024 * 1024  # about the L2 cache of a core
CHUNK_CHANNELS = 512  # shorter runs of channels cost more than a larger chunk


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
        if torch.compiler.is_compiling():
            return _pool_backward_op(grad, features, ctx.scales), None
        return _pool_backward(grad, features, ctx.scales), None


def _pool(features: Tensor, scales: int, out: Tensor | None) -> Tensor:
    pyramid = Pyramid(features, scales)
    if out is None and torch.compiler.is_compiling():  # which fuses a concatenation best
        blocks = [pyramid.pooled(*level).flatten(1, 2) for level in _climb(pyramid, features)]
        return torch.cat(blocks[::-1], dim=1).to(features.dtype)
    if out is None:
        out = features.new_empty((features.shape[0], count_blocks(scales), features.shape[3]))
    for images, channels in _chunks(features):
        cells = _load(features[images, :, :, channels], pyramid.dtype)
        for level in _climb(pyramid, cells):
            target = pyramid.blocks_of(out[images, :, channels], level[0])
            if torch.compiler.is_compiling() or target.dtype != cells.dtype:
                target.copy_(pyramid.pooled(*level))
            else:
                pyramid.pooled(*level, out=target)
    return out


def _climb(pyramid: Pyramid, cells: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Scale, maximum and sum of its blocks, from the finest scale of the result to scale 1."""
    cells = cells.to(pyramid.dtype)
    step = pyramid.first_step
    maximum, total = step.maximum(cells), step.total(cells)
    for scale in range(pyramid.finest, 0, -1):
        if scale <= pyramid.scales:
            yield scale, maximum, total
        if scale > 1:
            step = pyramid.step_from(scale)
            maximum, total = step.maximum(maximum), step.total(total)


@lru_cache(maxsize=1)
def _compiled_backward() -> Callable[[Tensor, Tensor, int], Tensor]:
    return torch.compile(_pool_backward)


@torch.library.custom_op("biod2c::multi_scale_pool_cpu_backward", mutates_args=())
def _pool_backward_op(grad: Tensor, features: Tensor, scales: int) -> Tensor:
    """The compiled backward pass, opaque to the compiler of the model around it.

    In one graph with the forward pass, the compiler would hand over the comparisons as booleans,
    which it reads and writes many times slower than it repeats them.
    """
    return _compiled_backward()(grad, features, scales)


@_pool_backward_op.register_fake
def _(grad: Tensor, features: Tensor, scales: int) -> Tensor:
    return torch.empty_like(features)


def _pool_backward(grad: Tensor, features: Tensor, scales: int) -> Tensor:
    pyramid = Pyramid(features, scales)
    result = torch.empty_like(features)
    for images, channels in _chunks(features):
        cells = _load(features[images, :, :, channels], pyramid.dtype)
        chunk = _pool_chunk_backward(pyramid, cells, grad[images, :, channels])
        _copy_map(result[images, :, :, channels], chunk)
    return result


def _pool_chunk_backward(pyramid: Pyramid, cells: Tensor, grad: Tensor) -> Tensor:
    step = pyramid.first_step
    if step.trivial and pyramid.finest > 1:
        mean_part, max_part = _descend(pyramid, pyramid.finest, cells, None, grad)
        return mean_part + max_part
    maximum = step.maximum(cells)
    reaches = _equal(step.split(cells), step.spread(maximum))
    count = step.total(reaches.view_as(cells))
    mean_part, max_part = _descend(pyramid, pyramid.finest, maximum, count, grad)
    return torch.addcmul(step.spread(mean_part), step.spread(max_part), reaches).view_as(cells)


def _descend(
    pyramid: Pyramid, scale: int, maximum: Tensor, count: Tensor | None, grad: Tensor
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
        count: (b, k, k, d), how many cells reach it; None if each block is one cell.
        grad: (b, M, d), the gradient of the pooled blocks, all scales.

    Returns:
        (b, k, k, d) twice: the gradient for every cell, and for each cell that reaches the maximum.
    """
    mean_part = max_part = maximum.new_zeros(())
    shape = maximum.shape
    if scale > 1:
        step = pyramid.step_from(scale)
        coarser = step.maximum(maximum)
        reaches = _equal(step.split(maximum), step.spread(coarser))
        counted = reaches if count is None else reaches * step.split(count)
        parts = _descend(pyramid, scale - 1, coarser, step.total(counted.view(shape)), grad)
        mean_part = step.spread(parts[0]).expand_as(reaches).reshape(shape)
        max_part = (step.spread(parts[1]) * reaches).view(shape)
    if scale <= pyramid.scales:
        own = pyramid.blocks_of(grad, scale).to(maximum.dtype)
        mean_part = mean_part + own * pyramid.share(scale)
        max_part = max_part + (own if count is None else own / count)
    return mean_part, max_part


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where ``a`` equals the broadcast ``b``, else 0, in their dtype; much faster than a bool."""
    if torch.compiler.is_compiling():
        return (a == b).to(a.dtype)
    return torch.eq(a, b, out=torch.empty(a.shape, dtype=a.dtype, device=a.device))


def _chunks(features: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of images and channels, each small enough for the cache."""
    images, height, width, channels = features.shape
    if torch.compiler.is_compiling():
        yield slice(None), slice(None)
        return
    budget = CHUNK_BYTES * torch.get_num_threads()
    image_bytes = max(1, height * width * channels * features.element_size())
    run = channels if image_bytes <= budget else CHUNK_CHANNELS
    together = max(1, budget // image_bytes)
    for image in range(0, images, together):
        for channel in range(0, channels, run):
            yield slice(image, image + together), slice(channel, channel + run)


def _load(cells: Tensor, dtype: torch.dtype) -> Tensor:
    """A chunk in the accumulation dtype with its channels contiguous; copied only where needed."""
    if cells.stride(3) == 1 or torch.compiler.is_compiling():
        return cells.to(dtype)
    loaded = torch.empty(cells.shape, dtype=dtype, device=cells.device)
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
