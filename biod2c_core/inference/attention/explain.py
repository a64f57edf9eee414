"""Maps of where a model looks for an answer, of the whole answer and of each of its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.inference.attention.attention_map import AttentionMap, View
from biod2c_core.inference.attention.maps import (
    choose_layers,
    normalize,
    spread_blocks,
    trace_tokens,
)
from biod2c_core.inference.attention.trace import Trace, trace_answer, without_fusion
from biod2c_core.model.generation import Answer, Answerer


def explain(
    answerer: Answerer, image: Image.Image, questions: Sequence[str], view: View | None = None
) -> list[AttentionMap]:
    """Answer questions about an image, and show where the model looked for each answer.

    Args:
        answerer: The loaded model.
        image: RGB.
        questions: The questions.
        view: Which attention; by default the fusion decoder's.

    Raises:
        InputError: A question is empty or too long, or a layer, head or scale does not exist.
        ConfigError: The model has no fusion, and the method needs it.
    """
    answers = answerer.answer_images([image], [(0, question) for question in questions])
    pixels = answerer.processor.pixels(image)
    return [
        explain_answer(answerer, pixels, question, answer, view)
        for question, answer in zip(questions, answers, strict=True)
    ]


def explain_without_fusion(
    answerer: Answerer, image: Image.Image, questions: Sequence[str], view: View | None = None
) -> list[AttentionMap]:
    """As :func:`explain`, the same weights without the gated term of Eq. (2).

    There is no cross-attention to show then: the map is the language model's, whatever ``view``
    asks for of the fusion decoder.
    """
    kept = view if view is not None and view.method == "language" else View("language")
    with without_fusion(answerer.model):
        return explain(answerer, image, questions, kept)


def explain_answer(
    answerer: Answerer, pixels: Tensor, question: str, answer: Answer, view: View | None = None
) -> AttentionMap:
    """The map of an answer that has been given; arguments as in :func:`explain`."""
    view = view or View()
    gradients = view.method == "gradient"
    trace = trace_answer(answerer, pixels, question, answer.ids, gradients)
    whole, each = map_trace(trace, view)
    tokenizer = answerer.processor.tokenizer
    said = [index for index, one in enumerate(answer.ids) if one not in tokenizer.all_special_ids]
    return AttentionMap(
        question=question,
        answer=answer.text,
        confidence=answer.confidence,
        view=view,
        values=whole.numpy(),
        tokens=tuple(tokenizer.decode([answer.ids[index]]).strip() for index in said),
        token_values=each[said].numpy(),
    )


def map_trace(trace: Trace, view: View) -> tuple[Tensor, Tensor]:
    """The map of the whole answer and of each of its tokens.

    ``fusion`` averages the question's tokens for the answer, and for one of its tokens weights
    them by the language model's attention to the visual tokens that carry them. ``language``
    averages the answer's tokens. ``gradient`` keeps the positive part of weight times gradient
    of the answer's log-probability.

    Returns:
        (H, W) and (A, H, W), float64, each with sum 1.

    Raises:
        ConfigError: The model has no fusion, and the method needs it.
        InputError: A layer, head or scale does not exist, or the method has no scales.
    """
    if view.method == "language":
        if view.scales is not None:
            raise InputError(
                "the method 'language' shows no scales of blocks", "Leave out the scales."
            )
        language = choose_layers(trace.language, view.layers, view.heads)
        maps = trace_tokens(language, choose_layers(trace.resampler), trace.grid)
        return normalize(maps.mean(0)), maps
    if trace.fusion is None:
        raise ConfigError(
            f"this model has no fusion to show by the method {view.method!r}",
            "Choose the method 'language'.",
        )
    if view.method == "gradient":
        return _gradient_maps(trace, view)
    blocks = choose_layers(trace.fusion, view.layers, view.heads)  # (T, M)
    by_token = spread_blocks(blocks, trace.scales, trace.grid, view.scales)
    carried = choose_layers(trace.language)[:, : len(blocks)].double()
    each = torch.einsum("at,thw->ahw", carried, by_token)
    return normalize(by_token.mean(0)), normalize(each)


def _gradient_maps(trace: Trace, view: View) -> tuple[Tensor, Tensor]:
    if trace.fusion is None or trace.fusion_gradients is None:
        raise ConfigError("the trace holds no gradients", "Trace the answer with gradients.")
    rows = torch.cat([trace.fusion_gradients.sum(0, keepdim=True), trace.fusion_gradients])
    blocks = torch.stack(
        [
            choose_layers((trace.fusion * row).relu(), view.layers, view.heads).mean(0)
            for row in rows
        ]
    )
    maps = spread_blocks(blocks, trace.scales, trace.grid, view.scales)
    return maps[0], maps[1:]
