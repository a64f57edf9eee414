"""ROUGE as the package ``rouge`` 1.0.1 counts it: distinct n-grams, sentences cut at full stops.

That package is not maintained and takes time and stack quadratic in the text; its definition is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from biod2c_core.errors import InputError

MOST_PAIRS = 10_000_000  # of words of two texts: up to 300 MB and some seconds
_EPSILON = 1e-8


class EmptyTextError(ValueError):
    """A text without any sentence, on which the package stops."""


def rouge_scores(predicted: str, gold: str) -> tuple[float, float, float]:
    """F-measure of rouge-1, rouge-2 and rouge-l.

    Raises:
        EmptyTextError: A text is empty, or full stops only.
        InputError: The texts are too long to compare.
    """
    hypothesis, reference = _sentences(predicted), _sentences(gold)
    if not hypothesis or not reference:
        raise EmptyTextError("Hypothesis is empty.")
    given = [word for sentence in hypothesis for word in sentence]
    wanted = [word for sentence in reference for word in sentence]
    if len(given) * len(wanted) > MOST_PAIRS:
        raise InputError(
            f"ROUGE-L compares every word of {len(given):,} with every word of {len(wanted):,}, over the "
            f"limit of {MOST_PAIRS:,} pairs",
            "Score shorter answers, or by another --profile.",
        )
    one, two = (_n_gram_f(given, wanted, order) for order in (1, 2))
    return one, two, _longest_f(hypothesis, reference, len(set(given)), len(set(wanted)))


def _sentences(text: str) -> list[list[str]]:
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _n_gram_f(given: Sequence[str], wanted: Sequence[str], order: int) -> float:
    a = {tuple(given[i : i + order]) for i in range(len(given) - order + 1)}
    b = {tuple(wanted[i : i + order]) for i in range(len(wanted) - order + 1)}
    matches = len(a & b)
    return _f(matches / len(a) if a else 0.0, matches / len(b) if b else 0.0)


def _f(precision: float, recall: float) -> float:
    return 2.0 * ((precision * recall) / (precision + recall + _EPSILON))


def _longest_f(
    hypothesis: Sequence[list[str]], reference: Sequence[list[str]], given: int, wanted: int
) -> float:
    union: set[str] = set()
    for sentence in reference:
        for said in hypothesis:
            union.update(_common(sentence, said))
    return _f(len(union) / given, len(union) / wanted)


def _common(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The words of the longest common subsequence that the package reconstructs."""
    if not set(first) & set(second):
        return []
    table = [[0] * (len(second) + 1)]
    for word in first:
        above, row = table[-1], [0]
        for place, other in enumerate(second):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[-1]))
        table.append(row)
    i, j, found = len(first), len(second), []
    while i and j:
        if first[i - 1] == second[j - 1]:
            found.append(first[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
