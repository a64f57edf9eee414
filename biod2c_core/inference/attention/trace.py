"""One pass over image, question and answer that keeps every attention on the way.

Notation used for tensor shapes:

- M: blocks of all scales, V: visual tokens, T: question tokens, C: cells of the grid, A: answer tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biod2c_core.errors import ConfigError
from biod2c_core.inference.forced_decoding import score_answer
from biod2c_core.model.beyond.without_fusion import WithoutFusion
from biod2c_core.model.fusion import FusionDecoder
from biod2c_core.model.generation import Answerer
from biod2c_core.model.modeling import BioD2CForConditionalGeneration


@dataclass(frozen=True)
class Trace:
    """What attended to what while the model read an answer of its own.

    Attributes:
        grid: Rows and columns of the grid.
        scales: S, of the blocks.
        resampler: Of the resampler's queries to the cells, (layers, heads, V, C).
        fusion: Of the question's tokens to the blocks, (layers, heads, T, M); None without fusion.
        language: Of the place that yields each answer token to the visual tokens,
            (layers, heads, A, V).
        log_p: Log-probability of each answer token, (A,).
        fusion_gradients: Of each answer token's log-probability by ``fusion``,
            (A, layers, heads, T, M), if asked for.
    """

    grid: tuple[int, int]
    scales: int
    resampler: Tensor
    fusion: Tensor | None
    language: Tensor
    log_p: Tensor
    fusion_gradients: Tensor | None = None


@contextmanager
def recorded(decoder: FusionDecoder) -> Iterator[list[Tensor]]:
    """Keep the cross-attention weights of each layer that runs, as they stand in the graph."""
    kept: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        kept.append(output[1])

    handles = [layer.register_forward_hook(keep) for layer in decoder.layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_fusion(model: BioD2CForConditionalGeneration) -> Iterator[None]:
    """Leave out the gated term of Eq. (2): the visual tokens of the resampler alone."""
    before = model.fusion
    model.fusion = WithoutFusion.sharing(before)
    try:
        yield
    finally:
        model.fusion = before


def trace_answer(
    answerer: Answerer, pixels: Tensor, question: str, ids: tuple[int, ...], gradients: bool = False
) -> Trace:
    """Read image, question and a given answer once more, and keep every attention.

    The answer is not generated here, so that looking never changes it.

    Args:
        answerer: The loaded model.
        pixels: The image, (3, S, S), from the processor.
        question: The question.
        ids: The answer's token ids.
        gradients: Also compute ``fusion_gradients``, one backward pass an answer token.

    Raises:
        ConfigError: Gradients are asked of a model without fusion.
    """
    model = answerer.model
    if gradients and not model.fusion.enabled:
        raise ConfigError(
            "there is no fusion to take gradients of", "Choose the method 'language'."
        )
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        grid = model.vision(pixels[None].to(model.device, model.dtype)).detach()
        with recorded(model.fusion.decoder) as resampler:
            image = model.encode_image(grid_features=grid)
        with recorded(model.fusion.decoder) as fusion:
            scores = score_answer(answerer, image, question, ids, attention=True)
        by_fusion = _gradients(scores.log_p, fusion) if gradients else None
    return Trace(
        grid=(grid.shape[1], grid.shape[2]),
        scales=model.fusion.scales,
        resampler=_stack(resampler),
        fusion=_stack(fusion) if fusion else None,
        language=torch.stack(scores.attention).float().cpu(),
        log_p=scores.log_p.detach().cpu(),
        fusion_gradients=by_fusion,
    )


def _stack(weights: list[Tensor]) -> Tensor:
    return torch.stack([each[0].detach() for each in weights]).float().cpu()


def _gradients(log_p: Tensor, weights: list[Tensor]) -> Tensor:
    """(A, layers, heads, T, M)."""
    rows = [torch.autograd.grad(value, weights, retain_graph=True) for value in log_p]
    return torch.stack([_stack(list(row)) for row in rows])
