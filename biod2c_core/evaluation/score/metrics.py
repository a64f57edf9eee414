"""Metrics of one answer against its gold, each a pure function of two texts or token lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from cydifflib import SequenceMatcher  # difflib's results, five times as fast

from biod2c_core.evaluation.score.bleu import clipped
from biod2c_core.evaluation.score.scripts import has_other_script, words


def set_recall(gold: Collection[str], predicted: Collection[str]) -> float:
    """Share of the gold's distinct tokens that the prediction has; 0 for an empty gold."""
    wanted = frozenset(gold)  # a frozen set is taken as it is
    return len(wanted & frozenset(predicted)) / len(wanted) if wanted else 0.0


def set_f1(gold: Collection[str], predicted: Collection[str]) -> float:
    """F1 of distinct tokens with MultiMedEval's epsilon: 2PR / (P + R + 1e-8)."""
    recall, precision = set_recall(gold, predicted), set_recall(predicted, gold)
    return 2 * (precision * recall) / (precision + recall + 1e-8)


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


_LATIN_WORD = re.compile("[a-z0-9]+")


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
        matches = clipped(wanted, given, 1)[0]
        return 2 * matches / (len(wanted) + len(given)) if matches else 0.0
    if not (gold.isascii() and predicted.isascii()):
        return float(_rouge_scorer().score(gold, predicted)["rouge1"].fmeasure)
    # the same numbers in a tenth of the package's time
    wanted, given = (_LATIN_WORD.findall(text.lower()) for text in (gold, predicted))
    matches = clipped(wanted, given, 1)[0]
    if not matches:
        return 0.0
    precision, recall = matches / len(given), matches / len(wanted)
    return 2 * precision * recall / (precision + recall)


def nearest(choices: Sequence[str], text: str) -> str | None:
    """The choice most similar to ``text`` by ``difflib`` ratio, the first of equals.

    Returns:
        None where no choice shares a character with the text.
    """
    if text and text in choices:
        return text
    matcher = SequenceMatcher(None, "", text)
    best, best_ratio = None, 0.0
    for choice in choices:
        length = len(choice) + len(text)
        if 2 * min(len(choice), len(text)) <= best_ratio * length:
            continue  # the ratio is 2 * matches / length
        matcher.set_seq1(choice)
        if matcher.quick_ratio() > best_ratio and (ratio := matcher.ratio()) > best_ratio:
            best, best_ratio = choice, ratio
    return best


def nearest_of(choices: Sequence[str]) -> Callable[[str], str | None]:
    """:func:`nearest` for many texts and one long list of distinct choices.

    An upper bound of each ratio comes from letter counts, all choices at once; the ratio itself is only
    taken where it can still win. What was asked before is remembered.
    """
    known: dict[str, str | None] = {choice: choice for choice in choices}
    letters = {letter: i for i, letter in enumerate(sorted(set("".join(choices))))}
    counts = np.zeros((len(choices), len(letters)), np.int32)
    for row, choice in enumerate(choices):
        for letter in choice:
            counts[row, letters[letter]] += 1
    lengths = np.array([len(choice) for choice in choices])

    def find(text: str) -> str | None:
        if text not in known:
            known[text] = _nearest_by_bound(choices, counts, lengths, letters, text)
        return known[text]

    return find


def _nearest_by_bound(
    choices: Sequence[str], counts: Any, lengths: Any, letters: dict[str, int], text: str
) -> str | None:
    own = Counter(letter for letter in text if letter in letters)
    if not own:
        return None
    columns = [letters[letter] for letter in own]
    most = np.minimum(counts[:, columns], np.fromiter(own.values(), np.int32)).sum(1)
    bounds = 2 * most / (lengths + len(text))
    matcher = SequenceMatcher(None, "", text)
    places = dict.fromkeys(own, 0)
    for place, letter in enumerate(text):
        if letter in places:
            places[letter] |= 1 << place
    best, best_ratio = len(choices), 0.0
    for place in np.argsort(-bounds, kind="stable"):
        # the bound is a float division as the ratio is, so an equal one can only tie
        if bounds[place] < best_ratio or bounds[place] == 0:
            break
        choice = choices[place]
        total = len(choice) + len(text)
        if 2 * _common_subsequence(choice, places, len(text)) / total < best_ratio:
            continue
        matcher.set_seq1(choice)
        ratio = matcher.ratio()
        if ratio > best_ratio or (ratio == best_ratio > 0 and place < best):
            best, best_ratio = int(place), ratio
    return choices[best] if best_ratio > 0 else None


def _common_subsequence(choice: str, places: dict[str, int], length: int) -> int:
    """Length of the longest common subsequence, which no ratio's matches exceed (bit by bit, Hyyro).

    Args:
        choice: One text.
        places: Letter of the other text to the bits of its places there.
        length: Of the other text.
    """
    whole = (1 << length) - 1
    bits = whole
    for letter in choice:
        if matches := bits & places.get(letter, 0):
            bits = (bits + matches) | (bits - matches)
    return length - (bits & whole).bit_count()
