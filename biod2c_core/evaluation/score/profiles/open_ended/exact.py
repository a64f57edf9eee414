"""Exact match without case and punctuation: this project's own strict count, of any language.

lmms-eval counts SLAKE otherwise (brackets, words for yes and no): that is ``lmms-slake``.
"""

from __future__ import annotations

from collections.abc import Sequence

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.normalize import plain
from biod2c_core.evaluation.score.profiles.base import (
    ACCURACY_METRICS,
    BY_TYPE_METRICS,
    Metric,
    Profile,
    QuestionScorer,
    accuracy_columns,
)


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question: equal but for case, punctuation and blanks."""
    correct = float(plain(record.answer) == plain(prediction))
    return {"exact_match": correct} | accuracy_columns(record, correct)


def prepare(_records: Sequence[Record]) -> QuestionScorer:
    """The rule needs nothing of the other records."""
    return score_question


PROFILE = Profile(
    name="exact",
    version="2",
    summary="exact match without case and punctuation (biod2c's own)",
    metrics=(
        Metric("exact_match", "EM", "Share of exact answers, all questions."),
        *ACCURACY_METRICS,
        *BY_TYPE_METRICS,
    ),
    prepare=prepare,
    source="biod2c",
)
