"""Section 3.2: how far the visual tokens agree with the question, measured against the text queue.

Notation used for tensor shapes:

- B: batch, T: question tokens, V: visual tokens, d: width of the language model, k: queue texts,
  L: their tokens
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from biod2c_core.model import equations
from biod2c_core.model.losses import Batch, ForwardPass, Loss

RELEASED_QUEUE = 10  # texts of a queue in the authors' code

Embed = Callable[[Tensor], Tensor]


class Texts(NamedTuple):
    """What the visual tokens are measured against.

    Attributes:
        question_ids: (B, T).
        question_mask: (B, T), 1 where a token is real.
        queue_ids: (B, k, L).
        queue_mask: (B, k, L); an entry without any real token is missing.
    """

    question_ids: Tensor
    question_mask: Tensor
    queue_ids: Tensor
    queue_mask: Tensor


def fill(ids: Tensor, mask: Tensor, length: int, padding: int) -> Tensor:
    """Cut or fill texts to V tokens with the language model's padding id, as the authors do.

    Args:
        ids: (..., T).
        mask: (..., T), 1 where a token is real.
        length: V.
        padding: The padding id.

    Returns:
        (..., V).
    """
    filled = ids[..., :length].masked_fill(~mask[..., :length].bool(), padding)
    return F.pad(filled, (0, max(0, length - ids.shape[-1])), value=padding)


def embed_once(embed: Embed, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean embeddings of texts, each computed once however often it occurs.

    Args:
        embed: The encoding function epsilon of section 3.1, (..., L) to (..., L, d).
        ids: (B, k, L).
        mask: (B, k, L), 1 where a token is real.

    Returns:
        (B, k, d).
    """
    rows = ids.masked_fill(~mask.bool(), -1).flatten(0, 1)
    texts, places = rows.unique(dim=0, return_inverse=True)
    means = equations.masked_mean(embed(texts.clamp(min=0)), texts >= 0)
    return means[places].unflatten(0, ids.shape[:2])


def semantic_consistency(embed: Embed, tokens: Tensor, texts: Texts, temperature: float) -> Tensor:
    """Eq. (3) and (4) of the visual tokens, against question and text queue.

    Args:
        embed: The encoding function epsilon of section 3.1.
        tokens: X_{v|t}, (B, V, d).
        texts: The questions and their queues.
        temperature: tau.

    Returns:
        (B,), as of :func:`~biod2c_core.model.equations.semantic_divergence`.
    """
    with torch.no_grad():  # the texts are a fixed target
        queue = embed_once(embed, texts.queue_ids, texts.queue_mask)
        text = equations.masked_mean(embed(texts.question_ids), texts.question_mask)
        present = texts.queue_mask.bool().any(-1)
        log_p_text = equations.semantic_log_distribution(text, queue, present, temperature)
    visual = tokens.mean(1)
    log_p_visual = equations.semantic_log_distribution(visual, queue, present, temperature)
    return equations.semantic_divergence(log_p_visual, log_p_text)


def released_semantic_consistency(
    embed: Embed, tokens: Tensor, texts: Texts, temperature: float, padding: int
) -> Tensor:
    """As in the authors' code; shapes as in :func:`semantic_consistency`.

    Args:
        embed: The encoding function epsilon of section 3.1.
        tokens: Proj(X_v), the visual tokens before the gate, (B, V, d).
        texts: The questions and their queues; a queue of fewer than ten texts is filled up with zeros.
        temperature: tau.
        padding: The padding id.

    Returns:
        (B,).
    """
    length = tokens.shape[1]
    with torch.no_grad():
        queue = embed(fill(texts.queue_ids, texts.queue_mask, length, padding))
        queue = queue * texts.queue_mask.bool().any(-1)[..., None, None]
        queue = F.pad(queue, (0, 0, 0, 0, 0, max(0, RELEASED_QUEUE - queue.shape[1])))
        text = embed(fill(texts.question_ids, texts.question_mask, length, padding))
        log_p_text = equations.released_semantic_log_distribution(text, queue, temperature)
    log_p_visual = equations.released_semantic_log_distribution(tokens, queue, temperature)
    return equations.semantic_divergence(log_p_text, log_p_visual)


def _count(batch: Batch) -> Tensor:
    """Rows that have a text in their queue."""
    return cast("Tensor", batch["queue_mask"]).bool().flatten(1).any(-1).sum()


def _total(passed: ForwardPass) -> Tensor | None:
    config, batch = passed.config, passed.batch
    kind = config.semantic_loss
    if kind == "off":
        return None
    length = passed.visual.tokens.shape[1]  # as much as the fusion decoder reads
    texts = Texts(*(cast("Tensor", batch[name])[..., :length] for name in Texts._fields))
    embed, tau = passed.embedding, config.semantic_temperature
    if kind == "paper":
        return semantic_consistency(embed, passed.visual.tokens, texts, tau).sum()
    rows = batch.get("image_rows")
    before = passed.image.tokens if rows is None else passed.image.tokens[rows]
    return released_semantic_consistency(embed, before, texts, tau, config.padding_id).sum()


def _empty_queue(batch: Batch) -> dict[str, Tensor]:
    labels = cast("Tensor", batch["labels"])
    nothing = labels.new_zeros(len(labels), 1, 1)
    return {"queue_ids": nothing, "queue_mask": nothing}


SEM = Loss(
    "sem",
    _count,
    _total,
    needs=("queue_ids", "queue_mask"),
    setting="semantic_weight",
    stand_ins=_empty_queue,
)
