"""L_ans: the visual tokens alone are to name the words of the answer (not in the paper).

The language model also reads the question, and soon answers from it and from what it remembers; the
loss is small then, and little of it reaches the fusion module. This one goes past the language model.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, T: question tokens, V: visual tokens, d: width of the language
  model
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.model.equations import masked_mean


def answer_words(labels: Tensor) -> Tensor:
    """Which positions hold a token of the answer's text: its labels but the last, which ends it.

    Args:
        labels: (B, P), the answer's token ids side by side, -100 elsewhere.

    Returns:
        (B, P), bool.
    """
    real = labels != -100
    return real & F.pad(real[:, 1:], (0, 1))


def answer_words_loss(
    tokens: Tensor, question_mask: Tensor, labels: Tensor, embedding: nn.Embedding
) -> Tensor:
    """L_ans = -log of the probability of the answer's words, read off the visual tokens.

    The tokens at the positions of the question are averaged and layer-normalised, to x; word w has the
    probability softmax_w(x . (e_w - mean of e)), e being the embedded vocabulary, which gets no gradient.
    Computed in float32.

    Args:
        tokens: X_{v|t}, (B, V, d).
        question_mask: (B, T), true where a token is real.
        labels: (B, P), as in :func:`answer_words`.
        embedding: The language model's; called, never read, as an engine may have spread its weights.

    Returns:
        Mean over the rows that have words of the mean over their words, a scalar, float32 (zero if
        none has).
    """
    with torch.autocast(tokens.device.type, enabled=False):
        with torch.no_grad():
            vocabulary = embedding(torch.arange(embedding.num_embeddings, device=tokens.device))
            vocabulary = vocabulary.float()
            directions = vocabulary - vocabulary.mean(0)
        mask = question_mask[:, : tokens.shape[1]]
        seen = masked_mean(tokens[:, : mask.shape[1]].float(), mask)
        log_p = (F.layer_norm(seen, seen.shape[-1:]) @ directions.T).log_softmax(-1)
        words = answer_words(labels)
        each = log_p.gather(1, labels.clamp(min=0)) * words
        numbers = words.sum(1)
        losses = -each.sum(1) / numbers.clamp(min=1)
        return losses.sum() / (numbers > 0).sum().clamp(min=1)
