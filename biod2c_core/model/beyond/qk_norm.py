"""QK-norm: attention compares the directions of queries and keys (not in the paper).

Long features alone cannot saturate a head then, which would stop its learning; how sharp a head is, it
learns as a parameter of its own.

Notation used for tensor shapes:

- B: batch, T: queries, M: keys, D: width, h: heads
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biod2c_core.model.attention import scaled_dot_product
from biod2c_core.model.fusion import FusionDecoder, FusionLayer


class InverseRms(torch.autograd.Function):
    """1 / sqrt(mean(x^2) + eps) over the last dimension, (..., D) to (...).

    In float32 (or that of x, if finer) without a copy of x in it; eps is that of this type.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """See the class."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        squares = torch.linalg.vector_norm(x, dim=-1, dtype=dtype).square()
        inverse = (squares / x.shape[-1] + torch.finfo(dtype).eps).rsqrt()
        ctx.save_for_backward(x, inverse)
        return inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """d/dx = -x / D * inverse^3."""
        x, inverse = ctx.saved_tensors
        return x * (gradient * inverse**3 / -x.shape[-1]).to(x.dtype).unsqueeze(-1)


def directions(queries: Tensor, keys: Tensor, sharpness: Tensor) -> Tensor:
    """exp(s) q k^T / (|q|_rms |k|_rms sqrt(D / h)): the scaled dot product of directions.

    Args:
        queries: (B, h, T, D / h).
        keys: (B, h, M, D / h).
        sharpness: s, (h,).

    Returns:
        (B, h, T, M).
    """
    queries = F.rms_norm(queries, queries.shape[-1:]) * sharpness.exp()[:, None, None].to(
        queries.dtype
    )
    scores = scaled_dot_product(queries, keys)
    # cheaper than scaling the keys, which are larger than the scores
    return scores * InverseRms.apply(keys).unsqueeze(-2).to(scores.dtype)


class QKNormLayer(FusionLayer):
    """A :class:`FusionLayer` whose attentions compare :func:`directions`.

    Args:
        *sizes: As of :class:`FusionLayer`.
        cross: In the attention to the image.
        among: In the self-attention of the queries.
    """

    def __init__(self, *sizes: Any, cross: bool, among: bool) -> None:
        super().__init__(*sizes)
        heads = self.self_attn.num_heads
        self.sharpness = _sharpness(heads) if cross else None
        self.self_sharpness = _sharpness(heads) if among else None

    def cross_scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of the attention to the image; shapes as in :func:`directions`."""
        if self.sharpness is None:
            return super().cross_scores(queries, keys)
        return directions(queries, keys, self.sharpness)

    def self_scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of the self-attention; shapes as in :func:`directions`."""
        if self.self_sharpness is None:
            return super().self_scores(queries, keys)
        return directions(queries, keys, self.self_sharpness)


def _sharpness(heads: int) -> nn.Parameter:
    """Twice as sharp at first as plain scores of queries and keys of length one."""
    return nn.Parameter(torch.full((heads,), math.log(2)))


class QKNormDecoder(FusionDecoder):
    """A :class:`FusionDecoder` of :class:`QKNormLayer`, which layer-normalizes what it is given.

    Args:
        width: D.
        layers: How many layers.
        heads: h.
        feed_forward: Width of the feed-forward layers.
        dropout: Probability of dropout.
        cross: Normalize what is attended to, and compare directions in the cross-attention.
        among: Normalize the queries, and compare directions in their self-attention. Embedded words are
            short, and would drown in what the first self-attention adds to them, so that what is asked
            hardly changes where a layer looks.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        cross: bool = True,
        among: bool = False,
    ) -> None:
        make_layer = partial(QKNormLayer, cross=cross, among=among)
        super().__init__(width, layers, heads, feed_forward, dropout, make_layer)
        self.cross = cross
        self.among = among

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        padding: Tensor | None = None,
        need_attention: bool = False,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse; arguments and result as in :meth:`FusionDecoder.forward`."""
        if self.among:
            queries = F.layer_norm(queries, queries.shape[-1:])
        if self.cross:
            memory = F.layer_norm(memory, memory.shape[-1:])
        return super().forward(queries, memory, padding, need_attention, rows)
