"""The Triton kernels as torch operators: launch plans, fake tensors, autograd.

Operators: ``biod2c::multi_scale_pool`` (differentiable), ``biod2c::multi_scale_pool_out`` and
``biod2c::multi_scale_pool_backward``. Importing this module needs triton; only `dispatch` does, and
only when it is to run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from biod2c_core.ops.multi_scale_pool.geometry import count_blocks
from biod2c_core.ops.multi_scale_pool.triton_kernel import Plan, pool_backward_kernel, pool_kernel

NUM_WARPS = 4
MAX_LEVELS = 3  # a tile of 8 x 8 leaves: what a thread can hold, forward and back, without spills
LEAVES = 4**MAX_LEVELS


def multi_scale_pool_triton(features: Tensor, scales: int, out: Tensor | None = None) -> Tensor:
    """Max + mean of every block at every scale, by the Triton kernels.

    Args:
        features: (B, H, W, D), float16, bfloat16 or float32, any strides, on a GPU (or anywhere
            under ``TRITON_INTERPRET=1``).
        scales: S; 2^(S-1) is at most min(H, W).
        out: (B, M, D) to write to; only where no gradient is needed.

    Returns:
        (B, M, D) in the dtype of ``features``, as of the reference; sums are float32.
    """
    if out is not None:
        _pool_out(features, scales, out)
        return out
    keep = torch.is_grad_enabled() and features.requires_grad
    return _pool(features, scales, keep)[0]


def launch_plans(features: Tensor, scales: int) -> list[Plan]:
    """The passes over a map: the first reads its cells, each later one the roots of the one before.

    Args:
        features: (B, H, W, D).
        scales: S.

    Returns:
        What to compile for each pass; the last one reaches scale 1.
    """
    height, width, channels = (int(size) for size in features.shape[1:])
    scale = min(height, width).bit_length()
    planes = features.stride(3) != 1 and features.stride(2) == 1
    plans: list[Plan] = []
    while not plans or scale > 1:
        parts = 2 ** (scale - 1)
        even = parts > 1 and height % parts == 0 and width % parts == 0
        cells = (height // parts) * (width // parts) if even else 0
        first = not plans
        levels = min(MAX_LEVELS if cells == 1 or not first else MAX_LEVELS - 1, scale - 1)
        tile_width = min(32, parts) if planes and first else 2**levels
        plan = Plan(
            FINEST=scale,
            LEVELS=levels,
            SCALES=scales,
            MAP=first,
            PLANES=planes and first,
            TILE_W=tile_width,
            BIN_H=-(-height // parts),
            BIN_W=-(-width // parts),
            CELLS=cells,
            BLOCK_D=_block_channels(channels, tile_width * 2**levels, planes and first),
        )
        plans.append(plan)
        scale -= levels
    return plans


def _block_channels(channels: int, leaves: int, planes: bool) -> int:
    """Channels of a tile: in planes, so many that a thread holds `LEAVES` cells; else one each."""
    threads = 32 * NUM_WARPS
    wanted = min(threads, LEAVES * threads // leaves) if planes else threads
    return min(wanted, 2 ** max(0, channels - 1).bit_length())


def _new_roots(features: Tensor, plans: list[Plan], parts: int) -> Tensor:
    """Uninitialized float32 (parts, B, blocks, D) for the roots of every pass but the last."""
    blocks = sum(_root_side(plan) ** 2 for plan in plans[:-1])
    shape = (parts, features.shape[0], blocks, features.shape[3])
    return features.new_empty(shape, dtype=torch.float32)


def _root_side(plan: Plan) -> int:
    return 2 ** (plan.FINEST - plan.LEVELS - 1)


def _grids(roots: Tensor, plans: list[Plan]) -> list[Tensor]:
    """The roots of each pass, (parts, B, k, k, D); the last pass has none and gets them all."""
    sides = [_root_side(plan) for plan in plans[:-1]]
    pieces = roots.split([side * side for side in sides], dim=2)
    grids = [piece.unflatten(2, (side, side)) for piece, side in zip(pieces, sides, strict=True)]
    return [*grids, roots.unsqueeze(2)]


def _programs(plan: Plan, features: Tensor) -> tuple[int]:
    images, channels = features.shape[0], features.shape[3]
    leaves = 4 ** (plan.FINEST - 1)
    tiles = leaves // (plan.TILE_W * 2**plan.LEVELS)
    return (images * tiles * -(-channels // plan.BLOCK_D),)


def _leaf_steps(leaves: Tensor) -> tuple[int, ...]:
    """Strides by image, row, column, channel and part, of a map or of an earlier pass's roots."""
    strides = leaves.stride()
    return (*strides, 0) if leaves.ndim == 4 else (*strides[1:], strides[0])


def _root_steps(roots: Tensor) -> tuple[int, ...]:
    """Strides by image, row, column and part."""
    part, *steps, _ = roots.stride()
    return (*steps, part)


def _launch_pool(features: Tensor, scales: int, pooled: Tensor, keep: bool) -> Tensor:
    """Fill ``pooled``; returns the roots that the gradient needs."""
    plans = launch_plans(features, scales)
    roots = _new_roots(features, plans, 3)
    if pooled.numel() == 0:
        return roots
    size = (features.shape[3], features.shape[1], features.shape[2])
    leaves = features
    with torch.cuda.device_of(features):
        for plan, grid in zip(plans, _grids(roots, plans), strict=True):
            pool_kernel[_programs(plan, features)](
                leaves,
                _leaf_steps(leaves),
                pooled,
                pooled.stride(),
                grid,
                _root_steps(grid),
                size,
                plan=plan,
                KEEP=keep,
                num_warps=NUM_WARPS,
            )
            leaves = grid
    return roots


def _launch_backward(grad: Tensor, features: Tensor, roots: Tensor, scales: int) -> Tensor:
    plans = launch_plans(features, scales)
    result = torch.empty_like(features)
    if result.numel() == 0:
        return result
    size = (features.shape[3], features.shape[1], features.shape[2])
    leaves = [features, *_grids(roots, plans)]
    handed = _grids(_new_roots(features, plans, 2), plans)
    targets = [result, *handed]
    with torch.cuda.device_of(features):
        for i, plan in reversed([*enumerate(plans)]):
            pool_backward_kernel[_programs(plan, features)](
                leaves[i],
                _leaf_steps(leaves[i]),
                grad,
                grad.stride(),
                handed[i],
                _root_steps(handed[i]),
                targets[i],
                _leaf_steps(targets[i]),
                size,
                plan=plan,
                num_warps=NUM_WARPS,
            )
    return result


@torch.library.custom_op("biod2c::multi_scale_pool", mutates_args=())
def _pool(features: Tensor, scales: int, keep: bool) -> tuple[Tensor, Tensor]:
    """(B, M, D), and what the gradient needs of the coarse scales if ``keep``."""
    shape = (features.shape[0], count_blocks(scales), features.shape[3])
    pooled = features.new_empty(shape)
    return pooled, _launch_pool(features, scales, pooled, keep)


@_pool.register_fake
def _(features: Tensor, scales: int, keep: bool) -> tuple[Tensor, Tensor]:
    shape = (features.shape[0], count_blocks(scales), features.shape[3])
    return features.new_empty(shape), _new_roots(features, launch_plans(features, scales), 3)


@torch.library.custom_op("biod2c::multi_scale_pool_out", mutates_args={"out"})
def _pool_out(features: Tensor, scales: int, out: Tensor) -> None:
    _launch_pool(features, scales, out, keep=False)


@_pool_out.register_fake
def _(features: Tensor, scales: int, out: Tensor) -> None:
    return None


@torch.library.custom_op("biod2c::multi_scale_pool_backward", mutates_args=())
def _pool_backward(grad: Tensor, features: Tensor, roots: Tensor, scales: int) -> Tensor:
    return _launch_backward(grad, features, roots, scales)


@_pool_backward.register_fake
def _(grad: Tensor, features: Tensor, roots: Tensor, scales: int) -> Tensor:
    return torch.empty_like(features)


def _save(ctx: Any, inputs: tuple[Tensor, int, bool], output: tuple[Tensor, Tensor]) -> None:
    features, ctx.scales, _ = inputs
    ctx.save_for_backward(features, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, None, None]:
    features, roots = ctx.saved_tensors
    return _pool_backward(grad, features, roots, ctx.scales), None, None


_pool.register_autograd(_differentiate, setup_context=_save)
