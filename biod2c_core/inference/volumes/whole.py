"""What several answers to one question say together: of slices of a volume, or of several images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Share:
    """One of the answers that were given.

    Attributes:
        answer: In the words of the surest picture that gives it.
        confidence: Its evidence, see :func:`weigh`, in [0, 1].
        places: Which pictures give it, from 0, rising.
    """

    answer: str
    confidence: float
    places: tuple[int, ...]


def weigh(answers: Sequence[str | None], confidences: Sequence[float]) -> list[Share]:
    r"""The distinct answers, that with the most evidence first: it is the answer of the whole.

    Picture i of n says a_i with confidence p_i. The evidence of an answer a is

        E(a) = (1 / n) sum of p_i over all i with a_i = a,

    the linear pool of the pictures, where each gives what it is not sure of to no answer. E(a) is the
    chance that a picture drawn at random says a and is right, if the p_i are calibrated. It is at most
    the largest p_i of those that say a, is p_1 for one picture, and repeating all pictures changes
    nothing: neighbouring slices show nearly the same, so their number is no reason to be surer. All E
    sum to at most 1.

    Its limits: E is a mean, so what few slices show is outvoted by the others ("is there a lesion?" is
    about the one slice that has it); then read the slices, not the whole. It is not calibrated as a
    confidence of volumes.

    Args:
        answers: One a picture; None from a picture that is not sure enough, which counts in n alone.
        confidences: In [0, 1], one an answer.

    Returns:
        By falling evidence, equal ones by the surest picture, then by the first; answers are the same
        if they differ in case, blanks and a final full stop only. Empty if no picture answers.

    Raises:
        ValueError: There is not one confidence an answer.
    """
    groups: dict[str, list[int]] = {}
    for place, (answer, _) in enumerate(zip(answers, confidences, strict=True)):
        if answer is not None:
            groups.setdefault(" ".join(answer.casefold().split()).rstrip("."), []).append(place)
    ranked = []
    for places in groups.values():
        best = max(places, key=lambda place: confidences[place])  # the first of equals
        evidence = math.fsum(confidences[place] for place in places) / len(answers)
        share = Share(answers[best] or "", float(f"{evidence:.4g}"), tuple(places))
        ranked.append((-evidence, -confidences[best], places[0], share))
    return [share for *_, share in sorted(ranked, key=lambda row: row[:3])]


def median_familiarity(each: Iterable[float | None]) -> float | None:
    """The familiarity of several pictures together; None where none is known."""
    known = [value for value in each if value is not None]
    return float(f"{median(known):.4g}") if known else None


def ranges(places: Sequence[int]) -> str:
    """Rising whole numbers as text, runs of them as a range: ``3-5, 9``."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
