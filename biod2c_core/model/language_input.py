"""What the language model is given: the visual tokens in front of the text, packed if asked for.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, V: visual tokens, d: width of the language model, n: positions
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class LanguageInput(NamedTuple):
    """Inputs of the language model.

    Attributes:
        embeddings: (B, V + P, d); packed (1, n, d).
        mask: (B, V + P), 1 where a token is real; None where packed.
        positions: Of the real tokens, counted from 0 in each sample, as the embeddings.
        places: Where each visual token, then each text token, stands in a row, (B, V + P).
        answered: Places in front of answer tokens, bool, as the embeddings; None where all logits
            are wanted.
    """

    embeddings: Tensor
    mask: Tensor | None
    positions: Tensor
    places: Tensor
    answered: Tensor | None = None


def put_in_front(
    tokens: Tensor, text: Tensor, attention_mask: Tensor, begin: int = 0
) -> LanguageInput:
    """Put the visual tokens in front of the embedded text, behind its begin token if it has one.

    Padding stays outside: a sliding window counts it, so between image and text it would push the image
    out of sight.

    Args:
        tokens: X_{v|t}, (B, V, d).
        text: (B, P, d), padded on either side.
        attention_mask: (B, P), 1 where a token is real.
        begin: First real tokens of the text that stand in front of the visual tokens.
    """
    real = attention_mask.bool()
    count = real.cumsum(-1)
    # 0 padding on the left, 1 begin, 2 visual tokens, 3 the other text, 4 padding on the right
    part = torch.where(real, torch.where(count > begin, 3, 1), torch.where(count > 0, 4, 0))
    parts = torch.cat([part.new_full(tokens.shape[:2], 2), part], dim=1)
    order = parts.argsort(dim=-1, stable=True)
    both = torch.cat([tokens.to(text.dtype), text], dim=1)
    mask = torch.cat([attention_mask.new_ones(tokens.shape[:2]), attention_mask], dim=1)
    mask = mask.gather(1, order)
    return LanguageInput(
        embeddings=_rows(both, order),
        mask=mask,
        positions=(mask.cumsum(-1) - 1).clamp(min=0),
        places=order.argsort(dim=-1),
    )


def _rows(values: Tensor, order: Tensor) -> Tensor:
    """The rows ``order`` (B, m) of ``values`` (B, n, d): (B, m, d)."""
    return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def before_next(given: LanguageInput, length: int) -> Tensor:
    """Where what follows each text token is predicted: at the token, or at the last visual one after it.

    Args:
        given: From :func:`put_in_front`.
        length: P.

    Returns:
        (B, P), places in a row; what follows the last token is predicted there.
    """
    text = given.places[:, given.places.shape[1] - length :]
    return torch.cat([text[:, 1:] - 1, text[:, -1:]], dim=1)


def in_front_of_answers(given: LanguageInput, labels: Tensor) -> Tensor:
    """Places whose logits predict an answer token.

    Args:
        given: From :func:`put_in_front`.
        labels: (B, P), -100 where a position does not count.

    Returns:
        (B, V + P), bool.
    """
    places = before_next(given, labels.shape[1])[:, :-1]
    nowhere = torch.zeros_like(given.places, dtype=torch.bool)
    return nowhere.scatter(1, places, labels[:, 1:] != -100)


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
    return given._replace(embeddings=embeddings, mask=None, positions=positions, answered=answered)


def next_token_logits(language_model: Any, given: LanguageInput, length: int) -> Tensor:
    """Run the language model; its head sees only the places whose logits are wanted.

    Hiding the others from the head itself, rather than calling it apart, keeps whatever a
    language model does to its logits afterwards (scaling, capping).

    Args:
        language_model: Of transformers.
        given: From :func:`put_in_front`, packed or not.
        length: P.

    Returns:
        Where ``given.answered`` says, (1, n, vocabulary); without it, of what follows each text token,
        (B, P, vocabulary).
    """

    def wanted(hidden: Tensor) -> Tensor:
        if given.answered is not None:
            return hidden[given.answered].unsqueeze(0)
        return _rows(hidden, before_next(given, length))

    head: nn.Module = language_model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: (wanted(inputs[0]), *inputs[1:]))
    try:
        result = language_model(
            inputs_embeds=given.embeddings,
            attention_mask=given.mask,
            position_ids=given.positions,
            use_cache=False,
        )
    finally:
        handle.remove()
    logits: Tensor = result.logits
    return logits
