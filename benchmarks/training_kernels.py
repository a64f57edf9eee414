"""Pieces of a training step by themselves: the trunk, normalized attention, dropout."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from alternating import compare
from torch import Tensor, nn

from biod2c_core.model.attention import attend
from biod2c_core.model.beyond.qk_norm import directions
from biod2c_core.model.vision import VisionTower
from biod2c_core.ops.dropout import dropout

BATCH = 8


def trunk(repeat: int) -> dict[str, float]:
    """The paper's trunk at 512 pixels, without compiling."""
    torch.manual_seed(0)
    tower = VisionTower("open_clip", "RN50", (3,), image_size=512)
    plain = VisionTower("open_clip", "RN50", (3,), image_size=512).trunk
    plain.train()
    tower.fold()
    pixels = torch.rand(BATCH, 3, 512, 512)

    def ours() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return tower(pixels)

    @torch.no_grad()
    def theirs() -> Tensor:
        return plain(pixels)[0]

    return {"trunk": compare(ours, theirs, repeat)[0]}


def keys(repeat: int) -> dict[str, float]:
    """Normalized cross-attention at biod2c-tiny's size: what keys give scaled, against keys scaled."""
    torch.manual_seed(0)
    heads, width = 8, 432
    attention = nn.MultiheadAttention(width, heads, batch_first=True)
    sharpness = torch.full((heads,), math.log(2), requires_grad=True)
    queries, memory = torch.randn(BATCH, 16, width), torch.randn(BATCH, 400, width)

    def scaled_keys() -> Tensor:
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        q = F.linear(queries, weight[:width], bias[:width]).unflatten(-1, (heads, -1))
        kv = F.linear(memory, weight[width:], bias[width:]).unflatten(-1, (2, heads, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)
        q, k = (F.rms_norm(each, each.shape[-1:]) for each in (q.transpose(1, 2), k))
        scores = q * sharpness.exp()[:, None, None] @ k.transpose(-1, -2) * (width // heads) ** -0.5
        return attention.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def through(attend_to: Callable[[], Tensor]) -> Callable[[], float]:
        def step() -> float:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = attend_to().float().square().mean()
            loss.backward()
            attention.zero_grad()
            return float(loss.detach())

        return step

    def ours() -> Tensor:
        return attend(attention, queries, memory, score=partial(directions, sharpness=sharpness))[0]

    torch.testing.assert_close(ours(), scaled_keys(), atol=1e-5, rtol=1e-4)
    return {"normalized attention": compare(through(ours), through(scaled_keys), repeat)[0]}


def drop(repeat: int) -> dict[str, float]:
    """Dropout of an adapter's input at biod2c-tiny's size, forward and backward, against torch's."""
    torch.manual_seed(0)
    x = torch.ones(2 * BATCH, 50, 704, requires_grad=True)

    def through(function: Callable[[Tensor, float, bool], Tensor]) -> Callable[[], float]:
        def step() -> float:
            y = function(x, 0.1, True)
            y.backward(torch.ones_like(y))
            x.grad = None
            return float(y.detach().mean())

        return step

    ratio, own, other = compare(through(dropout), through(F.dropout), repeat)
    if abs(own - other) > 0.01:  # both are means of half a million draws around 1
        sys.exit(f"dropout: means differ, {own} and {other}")
    return {"dropout": ratio}
