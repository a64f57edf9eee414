"""BLEU by nltk, in the variants that evaluation code of this field computes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from nltk.translate.bleu_score import sentence_bleu

CUMULATIVE = tuple(tuple(1 / order for _ in range(order)) for order in (1, 2, 3, 4))


def _smallest(p_n: Sequence[Any], *_: Any, **__: Any) -> list[Any]:
    """Nltk's method 0 without its warnings: an order without a match is the smallest double."""
    return [p if p.numerator else sys.float_info.min for p in p_n]


def nltk_bleu(
    gold: Sequence[str], predicted: Sequence[str], weights: Sequence[tuple[float, ...]]
) -> list[float]:
    """Sentence BLEU without smoothing, once for each set of weights.

    Args:
        gold: Tokens of the one reference.
        predicted: Tokens of the prediction.
        weights: Weights of the orders 1, 2 ...; several sets cost hardly more than one.
    """
    if set(gold).isdisjoint(predicted):
        return [0.0] * len(weights)
    return list(_nltk_bleu(tuple(gold), tuple(predicted), tuple(weights)))


@lru_cache(maxsize=1 << 8)  # several profiles ask for the same
def _nltk_bleu(
    gold: tuple[str, ...], predicted: tuple[str, ...], weights: tuple[tuple[float, ...], ...]
) -> tuple[float, ...]:
    if not set(gold) & set(predicted):
        return (0.0,) * len(weights)  # as nltk, in a tenth of the time
    found = sentence_bleu([gold], predicted, weights=list(weights), smoothing_function=_smallest)
    return tuple(float(value) for value in (found if len(weights) > 1 else [found]))


def old_nltk_bleu_4(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Sentence BLEU-4 as nltk 3.2 gave it: the first order without a match ends the product.

    Args:
        gold: Tokens of the reference.
        predicted: Tokens of the prediction.
    """
    logs = 0.0
    for order in range(1, 5):
        matches, total = clipped(gold, predicted, order)
        if matches == 0:
            if order == 1:
                return 0.0
            break
        logs += math.log(matches / total) / 4
    return brevity(len(gold), len(predicted)) * math.exp(logs)


def clipped(gold: Sequence[str], predicted: Sequence[str], order: int) -> tuple[int, int]:
    """Clipped n-gram matches, and how many n-grams the prediction has (at least 1)."""
    total = max(1, len(predicted) - order + 1)
    left: dict[object, int] = {}
    for ngram in _ngrams(gold, order):
        left[ngram] = left.get(ngram, 0) + 1
    matches = 0
    for ngram in _ngrams(predicted, order):
        if count := left.get(ngram):
            left[ngram] = count - 1
            matches += 1
    return matches, total


def _ngrams(tokens: Sequence[str], order: int) -> Iterable[object]:
    if order == 1:
        return tokens
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def brevity(gold: int, predicted: int) -> float:
    """BLEU's brevity penalty for numbers of tokens."""
    return 1.0 if predicted > gold else math.exp(1 - gold / predicted)


def torchmetrics_bleu(
    gold: Sequence[str], predicted: Sequence[str], highest: int = 4
) -> list[float]:
    """BLEU-1 to BLEU-``highest`` as torchmetrics computes them; 0 where an order has no match.

    Each step is rounded to float32 as there, so that means agree with its users' to 1e-9.

    Args:
        gold: Tokens of the gold answer.
        predicted: Tokens of the prediction.
        highest: The last order.
    """
    single = np.float32
    values, logs, dead = [], [], False
    for order in range(1, highest + 1):
        matches, total = (0, 1) if dead else clipped(gold, predicted, order)
        dead = matches == 0
        if dead:
            values.append(0.0)
            continue
        logs.append(single(math.log(single(matches) / single(total))))
        weight = single(1 / order)
        geometric = single(math.exp(single(sum((weight * log for log in logs), single(0)))))
        if len(predicted) > len(gold):
            values.append(float(geometric))
        else:
            shortfall = single(1) - single(len(gold)) / single(len(predicted))
            values.append(float(single(math.exp(shortfall)) * geometric))
    return values
