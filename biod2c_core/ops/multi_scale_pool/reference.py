"""The definition of multi-scale pooling, block by block: slow, plain, and what all else is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from biod2c_core.ops.multi_scale_pool.geometry import list_blocks


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are taken in: float64 for float64, float32 for all narrower ones."""
    return torch.promote_types(dtype, torch.float32)


def multi_scale_pool_reference(features: Tensor, scales: int) -> Tensor:
    """Pool every block of every scale: f'_{s,t} = maxpool(f_{s,t}) + avgpool(f_{s,t}) (section 3.1).

    Both terms are taken in the accumulation dtype and their sum is rounded once. The gradient of a
    maximum is shared evenly among the cells that reach it. A block that holds a NaN gives NaN, and a
    NaN gradient for its cells; one that holds infinities gives what IEEE sums of them give.

    Args:
        features: (B, H, W, D), float16, bfloat16, float32 or float64, any strides.
        scales: S; 2^(S-1) is at most min(H, W).

    Returns:
        (B, M, D) in the dtype of ``features``: scale 1 first, row-major in each scale.
    """
    height, width = features.shape[1:3]
    wide = features.to(accumulation_dtype(features.dtype))
    blocks = (
        wide[:, box.top : box.bottom, box.left : box.right]
        for box in list_blocks(scales, height, width)
    )
    pooled = [block.amax(dim=(1, 2)) + block.mean(dim=(1, 2)) for block in blocks]
    return torch.stack(pooled, dim=1).to(features.dtype)
