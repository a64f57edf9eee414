"""How well two sets of scores agree: a judge with people, or a judge with itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biod2c_core.data.formats.rows.csv_rows import is_csv, iter_csv
from biod2c_core.data.records import iter_jsonl
from biod2c_core.errors import InputError, RecordError

Floats = NDArray[np.float64]
_SEED, _RESAMPLES = 20250, 2000


def read_scores(path: str | Path, column: str = "score") -> dict[str, float | None]:
    """Read scores from a CSV with a header, or from a judge's JSONL.

    Args:
        path: The file; a name that ends in ``.csv`` is CSV, any other JSONL. Both need ``id``.
        column: Which score.

    Returns:
        Id to score; None where the row has none (unscored).

    Raises:
        InputError: The file cannot be read, or has no such column.
        RecordError: An id is missing or repeated, or a score is not a number; ``file:line`` is named.
    """
    found: dict[str, float | None] = {}
    for line, row in _rows(Path(path), column):
        name = str(row.get("id") if row.get("id") is not None else "").strip()
        if not name:
            raise RecordError(path, line, "field 'id' is missing or empty")
        if name in found:
            raise RecordError(path, line, f"id {name!r} occurs twice", "Keep one score an id.")
        value = row.get(column)
        if value is None or str(value).strip() == "":
            found[name] = None
            continue
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            raise RecordError(path, line, f"{column} is {value!r}, expected a number") from None
        if not math.isfinite(found[name] or 0.0):
            raise RecordError(path, line, f"{column} is {value!r}, expected a number")
    return found


def _rows(path: Path, column: str) -> Iterable[tuple[int, dict[str, Any]]]:
    if not is_csv(path):
        for line, row in iter_jsonl(path):
            if not isinstance(row, dict):
                raise RecordError(path, line, "expected a JSON object")
            yield line, row
        return
    if not path.stat().st_size:
        raise InputError(f"{path} has no column 'id'", "Its columns: none.")
    rows = iter_csv(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path} has a header and no rows", "Give a row for each score.")
    for line, row in itertools.chain([first], rows):
        if isinstance(row, ValueError):
            raise RecordError(path, line, str(row))
        if missing := {"id", column} - set(row):
            raise InputError(
                f"{path} has no column {sorted(missing)[0]!r}", f"Its columns: {', '.join(row)}."
            )
        yield line, row


@dataclass(frozen=True)
class Statistic:
    """A number with its 95% bootstrap interval over answers; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Agreement:
    """Scores A against scores B on the answers that both have.

    Attributes:
        answers: How many both have scored.
        only_first: Ids that only A has scored.
        only_second: Ids that only B has scored.
        unscored_first: Ids that both files have, without a score in A.
        unscored_second: The same for B.
        pearson: Linear correlation.
        spearman: Rank correlation, ties at their mean rank.
        kappa: Cohen's kappa with quadratic weights, scores rounded to whole numbers.
        icc: Intraclass correlation ICC(2,1): two-way random effects, absolute agreement.
        difference: Mean of A - B.
        limits: Bland-Altman: the mean difference +- 1.96 standard deviations.
        absolute_difference: Mean of |A - B|.
        within_one: Share of answers with |A - B| of at most 1.
    """

    answers: int
    only_first: int
    only_second: int
    unscored_first: int
    unscored_second: int
    pearson: Statistic
    spearman: Statistic
    kappa: Statistic
    icc: Statistic
    difference: Statistic
    limits: tuple[float, float]
    absolute_difference: Statistic
    within_one: Statistic

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def pearson(a: Floats, b: Floats) -> float:
    """Linear correlation of (n,) and (n,); NaN where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1, ties at the mean of their ranks, (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation: :func:`pearson` of the mean ranks."""
    return pearson(mean_ranks(a), mean_ranks(b))


def quadratic_kappa(a: Floats, b: Floats) -> float:
    """Cohen's kappa with weights (i - j)^2 on scores rounded half up: 1 - observed / expected.

    Observed is the mean of (a - b)^2, expected the same over all n x n pairs of an a with a b.
    """
    a, b = np.floor(a + 0.5), np.floor(b + 0.5)
    observed = float(((a - b) ** 2).mean())
    expected = float((a**2).mean() + (b**2).mean() - 2 * a.mean() * b.mean())
    return 1 - observed / expected if expected > 0 else math.nan


def icc_2_1(a: Floats, b: Floats) -> float:
    """ICC(2,1) of two raters (Shrout and Fleiss): absolute agreement of single ratings.

    (MSR - MSE) / (MSR + MSE + 2 (MSC - MSE) / n) from the two-way analysis of variance.
    """
    n = len(a)
    if n < 2:
        return math.nan
    table = np.stack([a, b], axis=1)
    mean = table.mean()
    rows = 2 * float(((table.mean(1) - mean) ** 2).sum()) / (n - 1)
    columns = n * float(((table.mean(0) - mean) ** 2).sum())
    residual = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + mean
    error = float((residual**2).sum()) / (n - 1)
    scale = rows + error + 2 * (columns - error) / n
    return (rows - error) / scale if scale > 0 else math.nan


def _statistic(measure: Callable[[Floats, Floats], float], a: Floats, b: Floats) -> Statistic:
    value = measure(a, b)
    if math.isnan(value):
        return Statistic(None)
    generator = np.random.default_rng(_SEED)
    draws = generator.integers(0, len(a), size=(_RESAMPLES, len(a)))
    drawn = np.array([measure(a[rows], b[rows]) for rows in draws])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Statistic(value, float(low), float(high))


def _why_so_few(shared: Collection[str], unscored: Sequence[int]) -> str:
    if len(shared) < 2:
        return f"{len(shared)} ids are in both: check that the ids are the same."
    return (
        f"{len(shared)} ids are in both, but {unscored[0]} of these are unscored in A and "
        f"{unscored[1]} in B: judge them again, or name another column."
    )


def agree(first: dict[str, float | None], second: dict[str, float | None]) -> Agreement:
    """Compare two sets of scores.

    Args:
        first: Id to score A, None where unscored.
        second: The same for B.

    Raises:
        InputError: Fewer than two answers are scored by both.
    """
    scored_a = {name: value for name, value in first.items() if value is not None}
    scored_b = {name: value for name, value in second.items() if value is not None}
    both = sorted(scored_a.keys() & scored_b.keys())
    shared = first.keys() & second.keys()
    unscored = [sum(scores[name] is None for name in shared) for scores in (first, second)]
    if len(both) < 2:
        raise InputError(
            f"only {len(both)} answers are scored in both files", _why_so_few(shared, unscored)
        )
    a = np.array([scored_a[name] for name in both])
    b = np.array([scored_b[name] for name in both])
    spread = 1.96 * float((a - b).std(ddof=1))
    mean = float((a - b).mean())
    return Agreement(
        answers=len(both),
        only_first=len(scored_a) - len(both),
        only_second=len(scored_b) - len(both),
        unscored_first=unscored[0],
        unscored_second=unscored[1],
        pearson=_statistic(pearson, a, b),
        spearman=_statistic(spearman, a, b),
        kappa=_statistic(quadratic_kappa, a, b),
        icc=_statistic(icc_2_1, a, b),
        difference=_statistic(lambda x, y: float((x - y).mean()), a, b),
        limits=(mean - spread, mean + spread),
        absolute_difference=_statistic(lambda x, y: float(np.abs(x - y).mean()), a, b),
        within_one=_statistic(lambda x, y: float((np.abs(x - y) <= 1).mean()), a, b),
    )


_LABELS = {
    "pearson": "Pearson r",
    "spearman": "Spearman rho",
    "kappa": "kappa (quadratic)",
    "icc": "ICC(2,1)",
    "difference": "mean A - B",
    "absolute_difference": "mean |A - B|",
    "within_one": "within 1 point",
}


def agreement_rows(agreement: Agreement) -> list[list[str]]:
    """Rows of label, value and interval for people."""
    rows = []
    for name, label in _LABELS.items():
        found: Statistic = getattr(agreement, name)
        if found.value is None:
            rows.append([label, "-", "-"])
        else:
            rows.append([label, f"{found.value:.3f}", f"{found.low:.3f} - {found.high:.3f}"])
    low, high = agreement.limits
    rows.append(["limits of agreement", f"{low:.3f} - {high:.3f}", ""])
    return rows
