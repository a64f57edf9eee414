"""Conformal sets: which answers cannot be ruled out at a given level, and whether that level is kept.

Split conformal prediction on the answers that can be listed: yes and no, or the choices. Some images
calibrate, the others are tested, over many random splits. A predictions file has the confidence of one
answer, so the rest is shared equally by the others; an answer that is none of them is as good as a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biod2c_core.data.formats.fields.choices import choice_meant
from biod2c_core.data.formats.fields.yes_no import polarity
from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.choices import choices_of
from biod2c_core.evaluation.score.normalize import closed_answer, vqa_clean
from biod2c_core.evaluation.score.profiles.choice.question import choice_question
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.evaluation.statistics.intervals import SEED, Floats

LEVEL = 0.9
SPLITS = 200
LEAST_QUESTIONS = 20
_YES_NO = ("yes", "no")


@dataclass(frozen=True)
class ConformalSets:
    """Sets of answers for one kind of question.

    Attributes:
        kind: ``closed`` or ``choice``.
        questions: How many there are.
        level: Share of sets that are to hold the gold answer.
        coverage: Share that do, mean over the splits.
        low: 2.5 % quantile of the coverage over the splits.
        high: 97.5 % quantile.
        size: Mean number of answers in a set.
        single: Share of sets with one answer, with which a model may speak.
    """

    kind: str
    questions: int
    level: float
    coverage: float
    low: float
    high: float
    size: float
    single: float


def conformal_sets(questions: Sequence[ScoredQuestion]) -> tuple[ConformalSets, ...]:
    """Sets for closed questions and for multiple choice, each where there are at least 20.

    Args:
        questions: With confidences.
    """
    found = []
    for kind, probabilities in (("closed", _of_yes_no), ("choice", _of_choices)):
        rows = [
            (row, question.record.image)
            for question in questions
            if (row := probabilities(question.record, question)) is not None
        ]
        if len(rows) < LEAST_QUESTIONS:
            continue
        widest = max(len(row) for row, _ in rows)
        table = np.full((len(rows), widest), np.nan)
        for place, (row, _) in enumerate(rows):
            table[place, : len(row)] = row
        result = coverage_over_splits(table, [image for _, image in rows])
        if result is not None:
            found.append(ConformalSets(kind, len(rows), LEVEL, *result))
    return tuple(found)


def quantile(scores: Floats, level: float) -> float:
    """The calibrated bound: the ceil((n + 1) level)-th smallest score; infinite where n is too small.

    Args:
        scores: (n,) 1 minus the probability of the gold answer.
        level: Share of sets that are to hold it.
    """
    place = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.partition(scores, place - 1)[place - 1]) if place <= len(scores) else math.inf


def coverage_over_splits(
    table: Floats, images: Sequence[str], level: float = LEVEL, splits: int = SPLITS
) -> tuple[float, float, float, float, float] | None:
    """Calibrate on half of the images and test on the others, many times.

    Args:
        table: (n, answers) probabilities, the gold answer's first; NaN beyond a question's answers.
        images: Of each question, (n,).
        level: Share of sets that are to hold the gold answer.
        splits: How often.

    Returns:
        Coverage, its 2.5 % and 97.5 % quantiles over the splits, size, share of single answers; None
        with fewer than two images.
    """
    names = {name: place for place, name in enumerate(dict.fromkeys(images))}
    if len(names) < 2:
        return None
    place = np.array([names[image] for image in images])
    distance = 1 - table
    generator = np.random.default_rng(SEED)
    rows = []
    for _ in range(splits):
        half = generator.permutation(len(names))[: len(names) // 2]
        calibrating = np.isin(place, half)
        bound = quantile(distance[calibrating, 0], level)
        tested = distance[~calibrating]
        sizes = (tested <= bound).sum(1) if math.isfinite(bound) else (~np.isnan(tested)).sum(1)
        rows.append(((tested[:, 0] <= bound).mean(), sizes.mean(), (sizes == 1).mean()))
    coverage, size, single = np.array(rows).T
    low, high = np.quantile(coverage, [0.025, 0.975])
    return (
        float(coverage.mean()),
        float(low),
        float(high),
        float(size.mean()),
        float(single.mean()),
    )


def _of_yes_no(record: Record, question: ScoredQuestion) -> list[float] | None:
    gold = closed_answer(record.answer)
    if not gold or choices_of(record):
        return None
    first = next((w for w in vqa_clean(question.prediction.answer).split() if w in _YES_NO), "")
    said = first or polarity(question.prediction.answer)
    return _shared(_YES_NO, gold, said, question.prediction.confidence or 0.0)


def _of_choices(record: Record, question: ScoredQuestion) -> list[float] | None:
    found = choice_question(record)
    if found is None:
        return None
    said = choice_meant(found.choices, question.prediction.answer)
    return _shared(tuple(found.choices), found.right, said, question.prediction.confidence or 0.0)


def _shared(answers: Sequence[str], gold: str, said: str, sure: float) -> list[float]:
    """Probabilities, the gold answer's first."""
    count = len(answers)
    if said not in answers or count == 1:
        return [1 / count] * count
    each = {answer: sure if answer == said else (1 - sure) / (count - 1) for answer in answers}
    return [each.pop(gold), *each.values()]
