"""How sure a result is: intervals, breakdowns and paired tests, all clustered by image.

Questions about one image are not independent: whoever misreads the image misses several of them.
So images are drawn, not questions, and signs are flipped for whole images.

Notation: Q questions, C images, M columns, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.score.score import Evaluation, ScoredQuestion

LEVEL = 0.95
METHOD = "percentile bootstrap over images"
RESAMPLES = 2000
SEED = 20250
MOST_GROUPS = 40
_CHUNK = 500
_CELLS = 1 << 15
_STACKED_CELLS = 1 << 22  # 32 MB

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A column's mean with its confidence interval.

    Attributes:
        value: The mean; None where the column applies to no question.
        questions: How many it applies to.
        low: Lower end; None where there are fewer than two images.
        high: Upper end.
    """

    value: float | None
    questions: int
    low: float | None = None
    high: float | None = None


def image_totals(questions: Sequence[ScoredQuestion], keys: Sequence[str]) -> tuple[Floats, Floats]:
    """Add up each column over the questions about each image.

    Returns:
        Sums and counts, each (C, M), images in order of first appearance.
    """
    place: dict[str, int] = {}
    column = {key: index for index, key in enumerate(keys)}
    cells: list[int] = []
    values: list[float] = []
    for question in questions:
        row = place.setdefault(question.record.image, len(place)) * len(keys)
        for key, value in question.values.items():
            cells.append(row + column[key])
            values.append(value)
    shape = (len(place), len(keys))
    at, size = np.array(cells, np.intp), len(place) * len(keys)
    sums, counts = np.bincount(at, np.array(values, np.float64), size), np.bincount(at, None, size)
    return sums.astype(np.float64).reshape(shape), counts.astype(np.float64).reshape(shape)


def resampled_means(
    sums: Floats, counts: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Means over images drawn with replacement, as many as there are.

    Args:
        sums: (C, M).
        counts: (C, M).
        resamples: B.
        seed: Of the draw.

    Returns:
        (B, M); NaN where a draw holds no question of a column.
    """
    columns = np.concatenate([sums, counts], 1)
    blocks = _stacked(image_draws(len(sums), resamples, seed), len(sums))
    totals = np.concatenate([drawn @ columns for drawn in blocks])
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals[:, : sums.shape[1]] / totals[:, sums.shape[1] :]


def _stacked(blocks: Iterator[Floats], images: int) -> Iterator[Floats]:
    """Small blocks, as many images give them, put together: a product reads its other side once."""
    if images <= _CELLS // 2:
        yield from blocks
        return
    while stack := [block.copy() for block in islice(blocks, max(1, _STACKED_CELLS // images))]:
        yield np.concatenate(stack)


def image_draws(images: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each image is drawn, (rows, C) at a time; the next block overwrites the last one.

    Image numbers are drawn and counted: several times as fast as the multinomial distribution, which
    needs an exponential and a logarithm for each cell. A number is the upper half of C times 32 random
    bits; no image's chance is off by more than C / 2^32 of itself. Blocks stay in the cache.
    """
    generator = np.random.default_rng(seed)
    rows = min(resamples, max(1, _CELLS // images))
    first_cells = np.arange(rows)[:, None] * images
    cells, drawn = np.empty((rows, images), np.int64), np.empty((rows, images))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        words = generator.integers(0, 1 << 64, size=(size * images + 1) // 2, dtype=np.uint64)
        halves = words.view(np.uint32)[: size * images].reshape(size, images)
        now = cells[:size]
        np.multiply(halves, images, out=now, dtype=np.int64)
        np.right_shift(now, 32, out=now)
        np.add(now, first_cells[:size], out=now)
        times = np.bincount(now.ravel(), minlength=size * images)
        drawn[:size] = times.reshape(size, images)
        yield drawn[:size]


def intervals(
    questions: Sequence[ScoredQuestion],
    keys: Sequence[str],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Estimate]:
    """Each column's mean and percentile bootstrap interval, clustered by image.

    Args:
        questions: The scored questions.
        keys: The columns.
        level: Coverage.
        resamples: B.
        seed: Of the draw; equal seeds give equal intervals.
    """
    # Sorted, so that the interval does not depend on the order of the records.
    questions = sorted(questions, key=lambda question: question.record.id)
    sums, counts = image_totals(questions, keys)
    found = _estimates(sums, counts, level, resamples, seed)
    return dict(zip(keys, found, strict=True))


def matrix_intervals(
    records: Sequence[Record],
    values: Floats,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Estimate]:
    """:func:`intervals` of many columns at once, for the values of a table.

    Args:
        records: Q questions.
        values: (Q, M); NaN where a column does not apply.
        level: Coverage.
        resamples: B.
        seed: Of the draw.
    """
    order = sorted(range(len(records)), key=lambda i: records[i].id)
    place: dict[str, int] = {}
    rows = np.array([place.setdefault(records[i].image, len(place)) for i in order])
    sums, counts = (np.zeros((len(place), values.shape[1])) for _ in range(2))
    for column in range(values.shape[1]):
        ordered = values[order, column]
        applies = ~np.isnan(ordered)
        sums[:, column] = np.bincount(rows[applies], weights=ordered[applies], minlength=len(place))
        counts[:, column] = np.bincount(rows[applies], minlength=len(place))
    return _estimates(sums, counts, level, resamples, seed)


def _estimates(
    sums: Floats, counts: Floats, level: float, resamples: int, seed: int
) -> list[Estimate]:
    """Mean and interval of each column of sums and counts by image."""
    totals = counts.sum(0)
    tail = (1 - level) / 2
    result = []
    means = resampled_means(sums, counts, resamples, seed) if len(sums) > 1 else None
    for index, questions in enumerate(totals):
        if questions == 0:
            result.append(Estimate(None, 0))
            continue
        value = float(sums[:, index].sum() / questions)
        if means is None or np.isnan(means[:, index]).all():
            result.append(Estimate(value, int(questions)))
            continue
        low, high = np.nanquantile(means[:, index], [tail, 1 - tail])
        result.append(Estimate(value, int(questions), float(low), float(high)))
    return result


def tag_groups(questions: Sequence[ScoredQuestion]) -> dict[str, dict[str, list[ScoredQuestion]]]:
    """Group questions by each tag's values.

    A value that lists several ("POS, PRES") puts its question in each. Tags with more than 40
    values (free text) or with a single one are left out, and so are the choices of a
    multiple-choice question.
    """
    groups: dict[str, dict[str, list[ScoredQuestion]]] = {}
    for question in questions:
        for tag, text in question.record.tags.items():
            if tag.startswith(("choice_", "answer_")):
                continue
            for value in dict.fromkeys(part.strip() for part in text.split(",")):
                groups.setdefault(tag, {}).setdefault(value, []).append(question)
    return {
        tag: dict(sorted(values.items()))
        for tag, values in sorted(groups.items())
        if 1 < len(values) <= MOST_GROUPS
    }


def breakdown(
    evaluation: Evaluation, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Tag -> value -> column -> estimate."""
    keys = [metric.key for metric in evaluation.profile.metrics]
    return {
        tag: {
            value: intervals(members, keys, resamples=resamples, seed=seed)
            for value, members in values.items()
        }
        for tag, values in tag_groups(evaluation.questions).items()
    }


@dataclass(frozen=True)
class PairedTest:
    """One column of system A against system B on the same questions.

    Attributes:
        questions: How many questions the column applies to in both.
        first: Mean of A.
        second: Mean of B.
        difference: A minus B.
        low: Lower end of its 95% interval, clustered by image; None with fewer than two images.
        high: Upper end.
        p: Two-sided p-value of the sign-flip test over images.
        p_adjusted: The same after Holm's correction over all columns.
    """

    questions: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float
    p_adjusted: float = 1.0


def sign_flip_p(differences: Floats, resamples: int = 10_000, seed: int = SEED) -> float:
    """Two-sided p-value that the image differences are symmetric around zero.

    p = (1 + #{|sum_c s_c d_c| >= |sum_c d_c|}) / (1 + B) with random signs s; with at most 12
    images that differ, all sign patterns are counted instead and p is exact.

    Args:
        differences: (C,) sum of A - B over each image's questions.
        resamples: B.
        seed: Of the signs.
    """
    d = differences[differences != 0]
    if d.size == 0:
        return 1.0
    observed = abs(d.sum())
    slack = 1e-9 * np.abs(d).sum()  # equal sums must count as equal despite rounding
    if d.size <= 12:
        patterns = np.arange(2**d.size)[:, None] >> np.arange(d.size) & 1
        return float((np.abs((1 - 2 * patterns) @ d) >= observed - slack).mean())
    generator = np.random.default_rng(seed)
    hits = 0
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        signs = 1 - 2 * generator.integers(0, 2, size=(size, d.size))
        hits += int((np.abs(signs @ d) >= observed - slack).sum())
    return (1 + hits) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest p times (m - i), never decreasing, at most 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compare(
    first: Evaluation, second: Evaluation, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, PairedTest]:
    """Test two systems against each other, column by column, question by question.

    Args:
        first: System A.
        second: System B, on the same records by the same profile.
        resamples: For the intervals.
        seed: Of all draws.

    Raises:
        InputError: The two are not about the same records or not by the same profile.
    """
    if first.profile.name != second.profile.name or first.records != second.records:
        raise InputError(
            "the two results are not about the same questions by the same profile",
            "Score both prediction files on one split.",
        )
    found = {}
    for metric in first.profile.metrics:
        pairs = [
            (a, a.values[metric.key], b.values[metric.key])
            for a, b in zip(first.questions, second.questions, strict=True)
            if metric.key in a.values and metric.key in b.values
        ]
        if pairs:
            found[metric.key] = paired_test(pairs, resamples, seed)
    adjusted = holm([test.p for test in found.values()])
    return {
        key: PairedTest(**{**vars(test), "p_adjusted": p})
        for (key, test), p in zip(found.items(), adjusted, strict=True)
    }


def paired_test(
    pairs: Sequence[tuple[ScoredQuestion, float, float]],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> PairedTest:
    """One column of system A against system B.

    Args:
        pairs: A question, A's value and B's value.
        resamples: For the interval.
        seed: Of all draws.
    """
    pairs = sorted(pairs, key=lambda pair: pair[0].record.id)
    place: dict[str, int] = {}
    for question, _, _ in pairs:
        place.setdefault(question.record.image, len(place))
    sums, counts = np.zeros((len(place), 1)), np.zeros((len(place), 1))
    for question, a, b in pairs:
        sums[place[question.record.image]] += a - b
        counts[place[question.record.image]] += 1
    first = float(np.mean([a for _, a, _ in pairs]))
    second = float(np.mean([b for _, _, b in pairs]))
    low = high = None
    if len(place) > 1:
        means = resampled_means(sums, counts, resamples, seed)
        low, high = (float(end) for end in np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    p = sign_flip_p(sums[:, 0], seed=seed)
    return PairedTest(len(pairs), first, second, first - second, low, high, p)
