"""What the language model is given: the visual tokens in front of the text, packed if asked for.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, V: visual tokens, d: width of the language model, n: positions
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LanguageInput(NamedTuple):
    """Inputs of the language model.

    Attributes:
        embeddings: (B, V + P, d); packed (1, n, d).
        mask: (B, V + P), 1 where a token is real; None where packed.
        positions: Of the real tokens, counted from 0 in each sample, as the embeddings.
        answered: Positions in front of answer tokens, bool, as the embeddings; None where all logits
            are wanted.
    """

    embeddings: Tensor
    mask: Tensor | None
    positions: Tensor
    answered: Tensor | None = None


def put_in_front(tokens: Tensor, text: Tensor, attention_mask: Tensor) -> LanguageInput:
    """Put the visual tokens in front of the embedded text.

    Args:
        tokens: X_{v|t}, (B, V, d).
        text: (B, P, d).
        attention_mask: (B, P), 1 where a token is real.
    """
    embeddings = torch.cat([tokens.to(text.dtype), text], dim=1)
    mask = torch.cat([attention_mask.new_ones(tokens.shape[:2]), attention_mask], dim=1)
    return LanguageInput(embeddings, mask, (mask.cumsum(-1) - 1).clamp(min=0))


def in_front_of_answers(labels: Tensor, visual_tokens: int) -> Tensor:
    """Positions whose logits predict an answer token.

    Args:
        labels: (B, P), -100 where a position does not count.
        visual_tokens: V.

    Returns:
        (B, V + P), bool.
    """
    return F.pad(labels[:, 1:] != -100, (visual_tokens, 1))


def pack(given: LanguageInput) -> LanguageInput:
    """Lay the samples side by side without padding.

    Without a mask, transformers parts samples where positions restart.
    """
    assert given.mask is not None
    real = given.mask.bool()
    embeddings, positions = (
        each[real].unsqueeze(0) for each in (given.embeddings, given.positions)
    )
    answered = None if given.answered is None else given.answered[real].unsqueeze(0)
    return LanguageInput(embeddings, None, positions, answered)


@contextmanager
def logits_only_at(head: nn.Module, positions: Tensor | None) -> Iterator[None]:
    """Within the block, the language model's head sees only some positions, as (1, n, d).

    Hiding the others from the head itself, rather than calling it apart, keeps whatever a
    language model does to its logits afterwards (scaling, capping).

    Args:
        head: The language model's.
        positions: (B, V + P), bool; None for all.
    """
    if positions is None:
        yield
        return
    handle = head.register_forward_pre_hook(
        lambda module, inputs: (inputs[0][positions].unsqueeze(0), *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()
