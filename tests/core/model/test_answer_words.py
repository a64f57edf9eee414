"""L_ans against a derivation word by word."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from biod2c_core.model.beyond.answer_words import (
    ANS,
    answer_word_log_p,
    answer_words,
    missed_words,
    vote,
)

END = 1
ANSWERS = st.lists(st.lists(st.integers(2, 10), max_size=4), min_size=1, max_size=4)


def labels_of(answers: list[list[int]]) -> torch.Tensor:
    """Two tokens of prompt, the answer, its end, padding."""
    longest = max(map(len, answers))
    rows = [[-100, -100, *each, END, *[-100] * (longest - len(each))] for each in answers]
    return torch.tensor(rows)


def loss_by_hand(tokens: Any, words: int, answer: list[int], vocabulary: Any) -> float:
    """One row, (V, d), in float64."""
    x = tokens[:words].mean(0)
    x = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    centre = vocabulary.mean(0)
    scores = [float(x @ (word - centre)) for word in vocabulary]
    total = math.log(sum(math.exp(score) for score in scores))
    return sum(total - scores[word] for word in answer) / len(answer)


def test_the_end_and_the_prompt_are_no_words() -> None:
    labels = labels_of([[5, 6], [], [7]])
    assert [row.nonzero().flatten().tolist() for row in answer_words(labels)] == [[2, 3], [], [2]]


@given(ANSWERS, st.integers(0, 99))
def test_the_loss_equals_the_one_by_hand(answers: list[list[int]], seed: int) -> None:
    torch.manual_seed(seed)
    embedding = nn.Embedding(11, 6)
    tokens = 3 * torch.randn(len(answers), 5, 6)
    words = [1 + (seed + row) % 5 for row in range(len(answers))]
    mask = torch.arange(7)[None] < torch.tensor(words)[:, None]  # T may be larger than V
    labels = labels_of(answers)
    found = missed_words(answer_word_log_p(tokens, mask, embedding), labels)
    vocabulary = embedding.weight.detach().double().numpy()
    wanted = [
        loss_by_hand(own.double().numpy(), number, answer, vocabulary)
        for own, number, answer in zip(tokens, words, answers, strict=True)
        if answer
    ]
    assert found[[bool(answer) for answer in answers]].tolist() == pytest.approx(wanted, rel=1e-4)
    assert not found[[not answer for answer in answers]].any()
    assert int(ANS.count({"labels": labels})) == len(wanted)


def test_the_embedding_gets_no_gradient() -> None:
    embedding = nn.Embedding(11, 6)
    tokens = torch.randn(1, 3, 6, requires_grad=True)
    words = answer_word_log_p(tokens, torch.ones(1, 2), embedding)
    missed_words(words, labels_of([[4]])).sum().backward()
    assert embedding.weight.grad is None
    assert tokens.grad is not None
    assert tokens.grad[:, :2].abs().min() > 0
    assert not tokens.grad[:, 2].any()


def test_it_is_computed_in_float32_whatever_the_step_is() -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(11, 6)
    tokens, mask, labels = torch.randn(2, 3, 6), torch.ones(2, 3), labels_of([[4], [5, 6]])
    plain = missed_words(answer_word_log_p(tokens, mask, embedding), labels)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = missed_words(answer_word_log_p(tokens, mask, embedding), labels)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)


def vote_by_hand(
    scores: list[float], before: list[int], words: list[float], weight: float
) -> list[float]:
    """One place, probabilities instead of their logarithms."""
    factors = [math.exp(word) ** weight for word in words]
    if before:
        factors[END] = math.prod(factors[word] for word in before) ** (1 / len(before))
    products = [math.exp(score) * factor for score, factor in zip(scores, factors, strict=True)]
    return [math.log(product / sum(products)) for product in products]


@given(
    st.lists(st.integers(0, 10), max_size=4), st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 99)
)
def test_the_vote_equals_the_one_by_hand(before: list[int], weight: float, seed: int) -> None:
    torch.manual_seed(seed)
    scores, words = 3 * torch.randn(2, 11), (3 * torch.randn(2, 11)).log_softmax(-1)
    ids = torch.tensor([before, before], dtype=torch.long)
    for ends in (END, [END]):
        found = vote(scores, ids, words, weight, ends)
        for row in range(2):
            wanted = vote_by_hand(scores[row].tolist(), before, words[row].tolist(), weight)
            assert found[row].tolist() == pytest.approx(wanted, abs=1e-4)


def test_without_weight_the_language_model_answers_alone() -> None:
    torch.manual_seed(0)
    scores, words = torch.randn(1, 11), torch.randn(1, 11).log_softmax(-1)
    alone = vote(scores, torch.tensor([[3]]), words, 0.0, END)
    torch.testing.assert_close(alone, scores.log_softmax(-1))
