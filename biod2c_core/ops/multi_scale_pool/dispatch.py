"""The one public function: check the input, choose an implementation, run it."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from biod2c_core.errors import InputError
from biod2c_core.ops.multi_scale_pool.cpu import multi_scale_pool_cpu
from biod2c_core.ops.multi_scale_pool.geometry import count_blocks, resolve_scales
from biod2c_core.ops.multi_scale_pool.reference import multi_scale_pool_reference

Backend = Literal["auto", "reference", "cpu", "triton"]
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def multi_scale_pool(
    features: Tensor,
    scales: int | Literal["auto"],
    *,
    backend: str = "auto",
    out: Tensor | None = None,
) -> Tensor:
    """Pool a feature map at S scales: max + mean of every block (MFE, section 3.1).

    Shapes: B batch, H x W cells, D channels, M = 1 + 4 + ... + 4^(S-1) blocks.

    Args:
        features: (B, H, W, D), float16, bfloat16, float32 or float64, in any strides: pass an NCHW
            map as ``x.permute(0, 2, 3, 1)``, it is not copied.
        scales: S, or ``"auto"`` for as many as fit, at most 6.
        backend: ``"auto"``, ``"reference"``, ``"cpu"`` or ``"triton"``.
        out: (B, M, D) of the dtype and device of ``features``, written and returned; only where no
            gradient is needed.

    Returns:
        (B, M, D): scale 1 first, row-major in each scale.

    Raises:
        InputError: A bad rank, dtype, number of scales, backend or ``out``; it is a ValueError.
    """
    scales = _check_features(features, scales)
    if backend not in get_args(Backend):
        raise InputError(f"unknown backend {backend!r}; known: {', '.join(get_args(Backend))}")
    if out is not None:
        _check_out(features, scales, out)
    if backend == "triton":
        raise InputError("backend 'triton' is not available", "Use backend='auto'.")
    if backend != "reference":
        return multi_scale_pool_cpu(features, scales, out)
    pooled = multi_scale_pool_reference(features, scales)
    return pooled if out is None else out.copy_(pooled)


def _check_features(features: Tensor, scales: int | Literal["auto"]) -> int:
    if features.ndim != 4:
        raise InputError(
            f"features must have 4 dimensions (B, H, W, D), got {features.ndim}: "
            f"{tuple(features.shape)}"
        )
    if features.dtype not in DTYPES:
        raise InputError(
            f"features must be float16, bfloat16, float32 or float64, got {features.dtype}"
        )
    return resolve_scales(scales, int(features.shape[1]), int(features.shape[2]))


def _check_out(features: Tensor, scales: int, out: Tensor) -> None:
    if torch.is_grad_enabled() and (features.requires_grad or out.requires_grad):
        raise InputError("out cannot be given where a gradient is needed", "Leave out=None.")
    shape = (features.shape[0], count_blocks(scales), features.shape[3])
    if tuple(out.shape) != tuple(shape):
        raise InputError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    if out.dtype != features.dtype or out.device != features.device:
        raise InputError(
            f"out must be {features.dtype} on {features.device}, got {out.dtype} on {out.device}"
        )
