"""What confidences are worth: risk against coverage, selective accuracy, calibration.

A question's risk is 1 minus its correctness, the profile's own measure in [0, 1]. A model that may
abstain answers from a threshold of its confidence on, so answers of equal confidence are accepted
together.

Notation: Q questions with a confidence, G distinct confidences, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.evaluation.statistics.conformal import ConformalSets, conformal_sets
from biod2c_core.evaluation.statistics.intervals import (
    LEVEL,
    RESAMPLES,
    SEED,
    Estimate,
    Floats,
    image_draws,
)

COVERAGES = (0.8, 0.6)
BINS = 10
_MOST_POINTS = 200
_LEAST = 2
_MOST_CELLS = 2_000_000  # of a table of weights: 16 MB


@dataclass(frozen=True)
class Selective:
    """Accuracy on the most confident answers.

    Attributes:
        wanted: Share of questions that were to be answered.
        coverage: Share that the threshold answers, at least as many.
        threshold: The lowest confidence that is answered.
        accuracy: With its interval.
    """

    wanted: float
    coverage: float
    threshold: float
    accuracy: Estimate


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence: how sure, and how often right."""

    questions: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Confidence:
    """Everything that a file's confidences come to.

    Attributes:
        questions: How many have a confidence and a correctness.
        without: How many of the file have none.
        accuracy: Of all of them.
        area: Under the risk-coverage curve; lower is better.
        area_random: What confidences without information would give: the mean risk.
        area_perfect: What confidences that rank every right answer first would give.
        selective: At 80 and 60 % of the questions.
        curve: (coverage, risk) from the surest answers to all.
        calibration_error: Mean distance of confidence and accuracy over the bins (ECE).
        brier: Mean squared distance of confidence and correctness.
        bins: Ten of equal width, without empty ones.
        conformal: Sets of answers for closed questions and multiple choice.
    """

    questions: int
    without: int
    accuracy: float
    area: Estimate
    area_random: float
    area_perfect: float
    selective: tuple[Selective, ...]
    curve: tuple[tuple[float, float], ...]
    calibration_error: float
    brier: float
    bins: tuple[Bin, ...]
    conformal: tuple[ConformalSets, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def assess_confidence(questions: Sequence[ScoredQuestion]) -> Confidence | None:
    """Assess the confidences of a scored file.

    Args:
        questions: The scored questions; those without a confidence or a correctness are left out.

    Returns:
        None where fewer than two questions have both.
    """
    usable = [
        question
        for question in sorted(questions, key=lambda question: question.record.id)
        if question.prediction.confidence is not None and question.correctness is not None
    ]
    if len(usable) < _LEAST:
        return None
    sure = np.array([question.prediction.confidence for question in usable], np.float64)
    right = np.array([question.correctness for question in usable], np.float64)
    images = _numbered([question.record.image for question in usable])
    curve = risk_coverage(sure, right)
    area, selective = _with_intervals(sure, right, images)
    bins = calibration_bins(sure, right)
    error = sum(each.questions * abs(each.confidence - each.accuracy) for each in bins)
    return Confidence(
        questions=len(usable),
        without=len(questions) - len(usable),
        accuracy=float(right.mean()),
        area=area,
        area_random=float(1 - right.mean()),
        area_perfect=perfect_area(right),
        selective=selective,
        curve=_thinned(curve),
        calibration_error=error / len(usable),
        brier=float(((sure - right) ** 2).mean()),
        bins=bins,
        conformal=conformal_sets(usable),
    )


def _numbered(names: Sequence[str]) -> Any:
    place: dict[str, int] = {}
    return np.array([place.setdefault(name, len(place)) for name in names])


def _groups(sure: Floats) -> tuple[Any, Floats]:
    """For each question the group of its confidence, the surest first, and the groups' confidences."""
    values, group = np.unique(-sure, return_inverse=True)
    return group, -values


def risk_coverage(sure: Floats, right: Floats) -> list[tuple[float, float]]:
    """(coverage, risk) for each threshold, from the highest confidence down.

    Args:
        sure: (Q,) confidences.
        right: (Q,) correctness in [0, 1].
    """
    group, _ = _groups(sure)
    counts, sums = np.bincount(group), np.bincount(group, weights=1 - right)
    covered = np.cumsum(counts)
    risks = np.cumsum(sums) / covered
    return [
        (float(share), float(risk)) for share, risk in zip(covered / len(sure), risks, strict=True)
    ]


def area_under(sure: Floats, right: Floats) -> float:
    """Area under the risk-coverage curve: the mean over questions of the risk when it is answered."""
    curve = np.array(risk_coverage(sure, right))
    return float(np.diff(curve[:, 0], prepend=0.0) @ curve[:, 1])


def perfect_area(right: Floats) -> float:
    """:func:`area_under` of the best order: no confidences of these answers can have less.

    Args:
        right: (Q,) correctness in [0, 1].
    """
    best_first = -np.sort(-right)
    return area_under(-np.arange(len(right), dtype=np.float64), best_first)


def _thinned(curve: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    places = np.unique(np.linspace(0, len(curve) - 1, _MOST_POINTS).round().astype(int))
    return tuple(curve[place] for place in places)


def _with_intervals(
    sure: Floats, right: Floats, images: Any
) -> tuple[Estimate, tuple[Selective, ...]]:
    """Area and selective accuracies, with percentile intervals over images drawn anew."""
    group, values = _groups(sure)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group)) - 1
    risks, pictures = (1 - right)[order], images[order]
    count = int(images.max()) + 1

    def measure(weights: Floats) -> tuple[Floats, list[Floats], list[Any]]:
        """From (B, Q) weights to areas, selective accuracies and the groups where these end."""
        covered = np.cumsum(weights, 1)[:, ends]
        total = covered[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            risk = np.cumsum(weights * risks, 1)[:, ends] / covered
        steps = np.diff(covered, axis=1, prepend=0.0)
        area = np.where(steps > 0, steps * risk, 0).sum(1) / total[:, 0]
        places = [(covered < wanted * total - 1e-9).sum(1) for wanted in COVERAGES]
        rows = np.arange(len(weights))
        return area, [1 - risk[rows, place] for place in places], places

    area, accuracies, places = measure(np.ones((1, len(sure))))
    most = max(1, _MOST_CELLS // len(sure))
    drawn = [
        measure(draws[start : start + most, pictures])
        for draws in image_draws(count, RESAMPLES, SEED)
        for start in range(0, len(draws), most)
    ]

    def estimate(value: float, samples: Floats) -> Estimate:
        if count < _LEAST:
            return Estimate(value, len(sure))
        low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value, len(sure), float(low), float(high))

    selective = []
    for index, wanted in enumerate(COVERAGES):
        samples = np.concatenate([found[1][index] for found in drawn])
        place = int(places[index][0])
        selective.append(
            Selective(
                wanted,
                float((ends[place] + 1) / len(sure)),
                float(values[place]),
                estimate(float(accuracies[index][0]), samples),
            )
        )
    areas = np.concatenate([found[0] for found in drawn])
    return estimate(float(area[0]), areas), tuple(selective)


def calibration_bins(sure: Floats, right: Floats) -> tuple[Bin, ...]:
    """Mean confidence and accuracy in ten bins of equal width, without empty ones.

    Args:
        sure: (Q,) confidences in [0, 1].
        right: (Q,) correctness in [0, 1].
    """
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(int(here.sum()), float(sure[here].mean()), float(right[here].mean()))
        for number in range(BINS)
        if (here := place == number).any()
    )
