"""The one public function: check the input, choose an implementation, run it."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from biod2c_core.errors import InputError
from biod2c_core.ops.multi_scale_pool.cpu import multi_scale_pool_cpu
from biod2c_core.ops.multi_scale_pool.geometry import count_blocks, resolve_scales
from biod2c_core.ops.multi_scale_pool.reference import multi_scale_pool_reference

Backend = Literal["auto", "reference", "cpu", "triton"]
logger = logging.getLogger(__name__)
TRITON_INSTALLED = find_spec("triton") is not None
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
        backend: ``"reference"``, the definition; ``"cpu"``, a pyramid of torch ops, for any device;
            ``"triton"``, GPU kernels; ``"auto"``, Triton for a map on a GPU, if it can run, and the
            pyramid for all others. Only ``"auto"`` falls back.
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
    chosen = _choose(features) if backend == "auto" else backend
    if chosen == "triton":
        if problem := _triton_problem(features):
            raise InputError(f"backend 'triton' cannot run: {problem}", "Use backend='auto'.")
        from biod2c_core.ops.multi_scale_pool.triton_op import multi_scale_pool_triton

        return multi_scale_pool_triton(features, scales, out)
    if chosen == "cpu":
        return multi_scale_pool_cpu(features, scales, out)
    pooled = multi_scale_pool_reference(features, scales)
    return pooled if out is None else out.copy_(pooled)


def _choose(features: Tensor) -> str:
    """Triton for a GPU where it can run, else the pyramid; why not is logged once."""
    if features.device.type == "cpu":
        return "cpu"
    if problem := _triton_problem(features):
        if not torch.compiler.is_compiling():
            _log_once(f"multi_scale_pool runs on torch ops, not on Triton: {problem}")
        return "cpu"
    return "triton"


@cache
def _log_once(message: str) -> None:
    logger.warning(message)


def _triton_problem(features: Tensor) -> str:
    """Why the Triton kernels cannot take this map; empty if they can."""
    if not TRITON_INSTALLED:
        return "the package triton is not installed"
    if features.dtype == torch.float64:
        return "it sums in float32, and the map is float64"
    if features.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs a GPU, and the map is on {features.device}"
    return ""


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
