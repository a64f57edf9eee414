"""Forced decoding: how likely the model finds each token of a given answer, and what it looks at.

Notation used for tensor shapes:

- V: visual tokens, A: answer tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import Answerer


@dataclass(frozen=True)
class AnswerScores:
    """What the model makes of a given answer.

    Attributes:
        log_p: Log-probability of each token, (A,), float32: what ``generate`` chooses from.
        attention: Of the place that yields each token to the visual tokens, (heads, A, V), one a
            layer of the language model; none where it was not asked for.
    """

    log_p: Tensor
    attention: tuple[Tensor, ...]


def score_answer(
    answerer: Answerer,
    image: ImageEncoding,
    question: str,
    ids: tuple[int, ...],
    attention: bool = False,
) -> AnswerScores:
    """Read a question and an answer to it.

    Args:
        answerer: The loaded model.
        image: One image, from :meth:`Answerer.encode`.
        question: The question.
        ids: The answer's token ids, its end included.
        attention: Also return where the language model looks, which fused kernels cannot tell.
    """
    model = answerer.model
    batch = answerer.processor(None, [question]).to(model.device)
    visual = model.encode(batch["question_ids"], batch["question_mask"], image)
    answer = batch["input_ids"].new_tensor([ids])
    text = torch.cat([batch["input_ids"], answer], 1)
    given = model.embed_prompt(visual.tokens, text, torch.ones_like(text))
    with _visible_attention(model.language_model) if attention else nullcontext():
        result = model.language_model(
            inputs_embeds=given.embeddings,
            attention_mask=given.mask,
            output_attentions=attention,
            use_cache=False,
        )
    places = slice(-len(ids) - 1, -1)  # where each answer token is predicted
    logits = result.logits[:, places].float()
    vote = model.vote(visual, batch["question_mask"])
    if vote is not None:
        logits = torch.stack([vote(answer[:, :a], logits[:, a]) for a in range(len(ids))], 1)
    log_p = logits[0].log_softmax(-1).gather(-1, answer[0, :, None])[:, 0]
    seen = given.places[0, : visual.tokens.shape[1]]
    layers = result.attentions or ()
    return AnswerScores(
        log_p, tuple(weights[0, :, places][..., seen].detach() for weights in layers)
    )


@contextmanager
def _visible_attention(language_model: Any) -> Iterator[None]:
    before = language_model.config._attn_implementation
    language_model.set_attn_implementation("eager")
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)
