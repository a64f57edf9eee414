"""Score predictions against records by a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core import __version__
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.predictions_file import (
    Prediction,
    check_complete,
    split_checksum,
)
from biod2c_core.evaluation.score.normalize import closed_answer
from biod2c_core.evaluation.score.profiles import Profile

# The columns that say whether a question is right, the first that applies
CORRECTNESS = (
    *("accuracy", "closed_accuracy", "open_accuracy", "choice_accuracy", "exact_match"),
    *("closed_accuracy_by_type", "open_recall"),
)


@dataclass(frozen=True)
class ScoredQuestion:
    """One question, what was said, and the columns that apply with their values."""

    record: Record
    prediction: Prediction
    values: dict[str, float]

    @property
    def correctness(self) -> float | None:
        """How right it is by the profile's own measure, in [0, 1]; None where no column says so."""
        return next((self.values[key] for key in CORRECTNESS if key in self.values), None)


@dataclass(frozen=True)
class Mean:
    """A column's mean and the number of questions it applies to; None where there are none."""

    value: float | None
    count: int


@dataclass(frozen=True)
class Evaluation:
    """Everything known about one predictions file on one split.

    Attributes:
        profile: The scoring convention.
        questions: In the data's order.
        judged_by: Judge, rubric and counts, where the convention rests on a judge.
    """

    profile: Profile
    questions: tuple[ScoredQuestion, ...]
    judged_by: Mapping[str, Any] | None = None

    @property
    def records(self) -> list[Record]:
        """The records, in the data's order."""
        return [question.record for question in self.questions]

    def mean(self, key: str) -> Mean:
        """The mean of one column over the questions it applies to."""
        values = [question.values[key] for question in self.questions if key in question.values]
        return Mean(sum(values) / len(values) if values else None, len(values))

    def totals(self) -> dict[str, float]:
        """The profile's numbers that are no mean over questions."""
        if self.profile.totals is None:
            return {}
        answers = [question.prediction.answer for question in self.questions]
        means = {metric.key: self.mean(metric.key).value for metric in self.profile.metrics}
        known = {key: value for key, value in means.items() if value is not None}
        return self.profile.totals(self.records, answers, known)

    def header(self) -> dict[str, Any]:
        """What every result must hold: version, profile, and which data, as JSON-ready values."""
        return {
            "biod2c_version": __version__,
            "profile": {
                "name": self.profile.name,
                "version": self.profile.version,
                "summary": self.profile.summary,
                "source": self.profile.source,
                "columns": {metric.key: metric.label for metric in self.profile.metrics},
                "ranked": [metric.key for metric in self.profile.metrics if metric.ranked],
                "totals": {metric.key: metric.label for metric in self.profile.total_metrics},
                "judge": dict(self.judged_by) if self.judged_by else None,
            },
            "data": describe_split(self.records),
        }


def describe_split(records: Sequence[Record]) -> dict[str, Any]:
    """Counts and checksum of a split.

    Closed and open are counted twice: by ``answer_type`` and by whether the gold answer is yes or
    no, because published numbers use either.
    """
    types = [record.answer_type for record in records]
    yes_no = sum(closed_answer(record.answer) != "" for record in records)
    return {
        "source": "+".join(sorted({record.source for record in records if record.source})),
        "split": "+".join(sorted({record.split for record in records if record.split})),
        "checksum": split_checksum(records),
        "questions": len(records),
        "images": len({record.image for record in records}),
        "closed_by_type": types.count("CLOSED"),
        "open_by_type": types.count("OPEN"),
        "closed_by_answer": yes_no,
        "open_by_answer": len(records) - yes_no,
    }


def check_scorable(records: Sequence[Record]) -> None:
    """Check that there are records and that each has a gold answer.

    Raises:
        InputError: There is no record, or one without an answer; its id is named.
    """
    if not records:
        raise InputError("there is no question to score", "Check the data and the split.")
    if without := next((record for record in records if not record.answer), None):
        raise InputError(
            f"record {without.id!r} has no gold answer, so it cannot be scored",
            "Score a split with answers.",
        )


def score(
    records: Sequence[Record],
    predictions: Mapping[str, Prediction],
    profile: Profile,
    path: str | Path = "predictions",
    *,
    verdicts: Mapping[str, float] | None = None,
    judged_by: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score one prediction for each record.

    Args:
        records: The questions with their gold answers.
        predictions: Id to prediction.
        profile: The scoring convention.
        path: Where the predictions come from, for error messages.
        verdicts: Id to what the convention's judge said; columns that need one are left out without.
        judged_by: Judge, rubric and counts, for the result.

    Raises:
        InputError: There is no record, or one without a gold answer.
        RecordError: A prediction is unknown or missing; file and line are named.
    """
    check_scorable(records)
    check_complete(records, predictions, path)
    rule = profile.prepare(records)
    known = verdicts or {}

    def values(record: Record) -> dict[str, float]:
        found = rule(record, predictions[record.id].answer)
        if profile.judge is None:
            return found
        return profile.judge.columns(record, known.get(record.id), found)

    questions = (
        ScoredQuestion(record, predictions[record.id], values(record)) for record in records
    )
    return Evaluation(profile, tuple(questions), judged_by)
