"""Metrics of one answer against its gold, each a pure function of two texts or token lists."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from biod2c_core.evaluation.score.scripts import has_other_script, words


def set_recall(gold: Collection[str], predicted: Collection[str]) -> float:
    """Share of the gold's distinct tokens that the prediction has; 0 for an empty gold."""
    wanted = set(gold)
    return len(wanted & set(predicted)) / len(wanted) if wanted else 0.0


def set_f1(gold: Collection[str], predicted: Collection[str]) -> float:
    """F1 of distinct tokens with MultiMedEval's epsilon: 2PR / (P + R + 1e-8)."""
    recall, precision = set_recall(gold, predicted), set_recall(predicted, gold)
    return 2 * (precision * recall) / (precision + recall + 1e-8)


def _unigram_matches(gold: Sequence[str], predicted: Sequence[str]) -> int:
    return sum((Counter(gold) & Counter(predicted)).values())


def bleu_1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Sentence BLEU-1 without smoothing: BP * c / p.

    c are the clipped matches, p and g the numbers of predicted and gold tokens, and the brevity
    penalty BP is 1 if p > g, else exp(1 - g / p).

    Args:
        gold: Tokens of the gold answer.
        predicted: Tokens of the prediction.
    """
    matches = _unigram_matches(gold, predicted)
    if matches == 0:
        return 0.0
    penalty = min(1.0, math.exp(1 - len(gold) / len(predicted)))
    return penalty * matches / len(predicted)


def bleu_1_single(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """:func:`bleu_1` as torchmetrics' ``BLEUScore(n_gram=1)`` rounds it.

    It computes exp(log(c / p)) in float32; each step is rounded to float32 here too, so that means
    agree with MultiMedEval's to 1e-9.
    """
    matches = _unigram_matches(gold, predicted)
    if matches == 0:
        return 0.0
    single = np.float32
    precision = single(matches) / single(len(predicted))
    geometric = single(math.exp(single(math.log(precision))))
    if len(predicted) > len(gold):
        return float(geometric)
    shortfall = single(1) - single(len(gold)) / single(len(predicted))
    return float(single(math.exp(shortfall)) * geometric)


def multiset_overlap(gold: Sequence[str], predicted: Sequence[str]) -> tuple[float, float, float]:
    """F1, precision and recall as LLaVA-Med's ``calculate_f1score`` counts repeated words.

    A word found on both sides counts as often as the *prediction* has it, for precision and recall
    alike; a word that is missing counts as often as the gold has it.

    Returns:
        F1, precision, recall; all 0 where a side is empty or nothing matches.
    """
    wanted, given = Counter(gold), Counter(predicted)
    hits = sum(count for word, count in given.items() if word in wanted)
    if hits == 0:
        return 0.0, 0.0, 0.0
    precision = hits / len(predicted)
    missed = sum(count for word, count in wanted.items() if word not in given)
    recall = hits / (hits + missed)
    return 2 * precision * recall / (precision + recall), precision, recall


def covered_share(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """LLaVA-Med's "exact match": distinct gold words found, over the number of predicted words."""
    return len(set(gold) & set(predicted)) / len(predicted) if predicted else 0.0


@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1"], use_stemmer=False)


def rouge_1(gold: str, predicted: str) -> float:
    """ROUGE-1 F-measure of the package rouge-score on the raw texts, without stemming.

    The package deletes all letters but a to z. Where a text has letters of another script than Latin
    and Greek, the same measure is taken of the words that :func:`~.scripts.words` finds.
    """
    if has_other_script(gold) or has_other_script(predicted):
        wanted, given = words(gold), words(predicted)
        matches = _unigram_matches(wanted, given)
        return 2 * matches / (len(wanted) + len(given)) if matches else 0.0
    return float(_rouge_scorer().score(gold, predicted)["rouge1"].fmeasure)


def nearest(choices: Sequence[str], text: str) -> str | None:
    """The choice most similar to ``text`` by ``difflib`` ratio, the first of equals.

    Returns:
        None where no choice shares a character with the text.
    """
    if text and text in choices:
        return text
    matcher = difflib.SequenceMatcher(None, "", text)
    best, best_ratio = None, 0.0
    for choice in choices:
        length = len(choice) + len(text)
        if 2 * min(len(choice), len(text)) <= best_ratio * length:
            continue  # the ratio is 2 * matches / length
        matcher.set_seq1(choice)
        if matcher.quick_ratio() > best_ratio and (ratio := matcher.ratio()) > best_ratio:
            best, best_ratio = choice, ratio
    return best
