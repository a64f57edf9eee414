"""Score one predictions file by many conventions at once: what the same answers come to, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction, check_complete
from biod2c_core.evaluation.score.profiles import Profile, is_ours
from biod2c_core.evaluation.score.score import check_scorable

_REPORT_EVERY = 256


@dataclass(frozen=True)
class AllScores:
    """The values of all columns of several profiles, in the memory of one table.

    Attributes:
        profiles: The conventions.
        records: The questions.
        values: (Q, M) float64, columns of all profiles one after the other; NaN where a column does
            not apply.
        totals: Profile to its numbers that are no mean over questions.
    """

    profiles: tuple[Profile, ...]
    records: tuple[Record, ...]
    values: NDArray[np.float64]
    totals: Mapping[str, Mapping[str, float]]

    def columns_of(self, profile: Profile) -> slice:
        """Where a profile's columns are in ``values``."""
        start = 0
        for other in self.profiles:
            if other.name == profile.name:
                return slice(start, start + len(profile.metrics))
            start += len(other.metrics)
        raise KeyError(profile.name)


def score_all(
    records: Sequence[Record],
    predictions: Mapping[str, Prediction],
    profiles: Sequence[Profile],
    path: str | Path = "predictions",
    advance: Callable[[int], None] = lambda _: None,
) -> AllScores:
    """Score one prediction for each record by each profile.

    A question whose record and answer read the same as an earlier one's is scored once.

    Args:
        records: The questions with their gold answers.
        predictions: Id to prediction.
        profiles: Conventions without a judge.
        path: Where the predictions come from, for error messages.
        advance: Called with numbers of questions done.

    Raises:
        InputError: There is no record, or one without a gold answer.
        RecordError: A prediction is unknown or missing; file and line are named.
    """
    check_scorable(records)
    check_complete(records, predictions, path)
    rules = [profile.prepare(records) for profile in profiles]
    places, width = [], 0
    for profile in profiles:
        places.append({metric.key: width + i for i, metric in enumerate(profile.metrics)})
        width += len(profile.metrics)
    values = np.full((len(records), width), np.nan)
    # conventions of ours look at nothing else of a record; one of another package may
    known = all(is_ours(profile) for profile in profiles)
    same: dict[tuple[object, ...], int] = {}
    empty = [np.nan] * width
    for row, record in enumerate(records):
        answer = predictions[record.id].answer
        further = () if known else (record.question, record.image, record.source, record.caption)
        key = (record.answer, record.answer_type, answer, *record.tags.items(), *further)
        if (first := same.setdefault(key, row)) != row:
            values[row] = values[first]
        else:
            cells = empty.copy()  # a list: cells of an array cost more than the rules
            for rule, place in zip(rules, places, strict=True):
                for name, value in rule(record, answer).items():
                    cells[place[name]] = value
            values[row] = cells
        if row % _REPORT_EVERY == _REPORT_EVERY - 1:
            advance(_REPORT_EVERY)
    advance(len(records) % _REPORT_EVERY)
    return AllScores(
        tuple(profiles), tuple(records), values, _totals(records, predictions, profiles, values)
    )


def _totals(
    records: Sequence[Record],
    predictions: Mapping[str, Prediction],
    profiles: Sequence[Profile],
    values: NDArray[np.float64],
) -> dict[str, dict[str, float]]:
    answers = [predictions[record.id].answer for record in records]
    found, start = {}, 0
    for profile in profiles:
        columns = values[:, start : start + len(profile.metrics)]
        start += len(profile.metrics)
        if profile.totals is not None:
            applies = ~np.isnan(columns)
            means = {
                metric.key: float(columns[applies[:, i], i].mean())
                for i, metric in enumerate(profile.metrics)
                if applies[:, i].any()
            }
            found[profile.name] = profile.totals(records, answers, means)
    return found
