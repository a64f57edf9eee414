"""L_ans: the visual tokens alone are to name the words of the answer (not in the paper).

The language model also reads the question, and soon answers from it and from what it remembers; the
loss is small then, and little of it reaches the fusion module. This one goes past the language model.
What it teaches may then have a vote in the answer, beside the language model.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, T: question tokens, V: visual tokens, d: width of the language
  model
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LogitsProcessor

from biod2c_core.model.equations import masked_mean
from biod2c_core.model.losses import Batch, ForwardPass, Loss


def answer_words(labels: Tensor) -> Tensor:
    """Which positions hold a token of the answer's text: its labels but the last, which ends it.

    Args:
        labels: (B, P), the answer's token ids side by side, -100 elsewhere.

    Returns:
        (B, P), bool.
    """
    real = labels != -100
    return real & F.pad(real[:, 1:], (0, 1))


def answer_word_log_p(tokens: Tensor, question_mask: Tensor, embedding: nn.Embedding) -> Tensor:
    """How likely the answer is to hold each word, log p_ans(w), read off the visual tokens alone.

    The tokens at the positions of the question are averaged and layer-normalized, to x; word w has the
    probability softmax_w(x . (e_w - mean of e)), e being the embedded vocabulary, which gets no gradient.
    Computed in float32.

    Args:
        tokens: X_{v|t}, (B, V, d).
        question_mask: (B, T), true where a token is real.
        embedding: The language model's; called, never read, as an engine may have spread its weights.

    Returns:
        (B, vocabulary), float32.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        with torch.no_grad():
            vocabulary = embedding(torch.arange(embedding.num_embeddings, device=tokens.device))
            vocabulary = vocabulary.float()
            middle = vocabulary.mean(0)
        mask = question_mask[:, : tokens.shape[1]]
        seen = masked_mean(tokens[:, : mask.shape[1]].float(), mask)
        x = F.layer_norm(seen, seen.shape[-1:])
        return (x @ vocabulary.T - (x @ middle).unsqueeze(-1)).log_softmax(-1)


def missed_words(log_p: Tensor, labels: Tensor) -> Tensor:
    """-log p_ans of the answer's words, averaged over the words of a row.

    Args:
        log_p: log p_ans of :func:`answer_word_log_p`, (B, vocabulary), float32.
        labels: (B, P), as in :func:`answer_words`.

    Returns:
        (B,), float32; zero where an answer has no words. L_ans is the mean over the others.
    """
    words = answer_words(labels)
    numbers = words.sum(1)
    return -(log_p.gather(1, labels.clamp(min=0)) * words).sum(1) / numbers.clamp(min=1)


def _count(batch: Batch) -> Tensor:
    return answer_words(cast("Tensor", batch["labels"])).any(-1).sum()


def _total(passed: ForwardPass) -> Tensor:
    mask, labels = (cast("Tensor", passed.batch[name]) for name in ("question_mask", "labels"))
    log_p = answer_word_log_p(passed.visual.tokens, mask, passed.embedding)
    return missed_words(log_p, labels).sum()


ANS = Loss("ans", _count, _total, needs=("labels",), setting="answer_weight", only_if_weighted=True)


def vote(
    scores: Tensor, before: Tensor, words: Tensor, weight: float, ends: int | Sequence[int]
) -> Tensor:
    """The next token, by the language model and by what the visual tokens name.

    p(w) is proportional to p_LM(w) p_ans(w)^weight. An end is not a word and p_ans knows nothing of it: it
    counts like the words before it on average, by their geometric mean, so that nothing is longer or
    shorter for it; as the first token it has its own p_ans, next to nothing.

    Args:
        scores: Of the language model for one place, (B, vocabulary), normalized or not.
        before: The answer's tokens before that place, (B, n).
        words: log p_ans of :func:`answer_word_log_p`, (B, vocabulary).
        weight: ``answer_vote`` of the configuration.
        ends: The tokens that end an answer.

    Returns:
        log p, (B, vocabulary), float32.
    """
    log_p = scores.float().log_softmax(-1)
    voted = log_p + weight * words
    ends = [ends] if isinstance(ends, int) else list(ends)
    said = torch.ones_like(before).sum(1, keepdim=True)  # not a branch: a graph holds both cases
    mean = words.gather(1, before).sum(1, keepdim=True) / said.clamp(min=1)
    voted[:, ends] = log_p[:, ends] + weight * torch.where(said > 0, mean, words[:, ends])
    return voted.log_softmax(-1)


class AnswerVote(LogitsProcessor):
    """:func:`vote` at each step of transformers' ``generate``.

    Args:
        words: log p_ans, (B, vocabulary); a row of beams or samples shares that of its question.
        weight: ``answer_vote`` of the configuration.
        ends: The tokens that end an answer.
    """

    def __init__(self, words: Tensor, weight: float, ends: int | Sequence[int]) -> None:
        self.words = words
        self.weight = weight
        self.ends = ends

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The voted log-probabilities of the next token, (B, vocabulary)."""
        words = self.words.repeat_interleave(len(scores) // len(self.words), 0)
        return vote(scores, input_ids, words, self.weight, self.ends)
