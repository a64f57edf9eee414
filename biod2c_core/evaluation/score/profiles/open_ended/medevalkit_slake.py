"""MedEvalKit (Lingshu), its rule for SLAKE, without a judge.

Counts: closed questions (by the data's answer type) by equal text, because the tool looks for lower
case yes and no while SLAKE's golds are "Yes" and "No"; open ones as in ``medevalkit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.extract import after_markers, final_answer
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, rule_for_each
from biod2c_core.evaluation.score.profiles.open_ended.medevalkit import (
    COMMIT,
    OPEN_METRICS,
    TOTAL_METRICS,
    contains_one,
    open_columns,
    printed_totals,
    without_stops,
)


def _answer(prediction: str) -> str:
    return after_markers(final_answer(prediction))


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question; none to one without an answer type."""
    if not record.answer_type:
        return {}
    answer = _answer(prediction)
    gold = record.answer.lower()
    if record.answer_type == "CLOSED":
        if record.answer in ("yes", "no"):
            correct = contains_one(gold, answer)
        else:
            correct = float(without_stops(answer) == gold)
        return {"closed_accuracy_by_type": correct, "accuracy": correct}
    columns = open_columns(gold, answer)
    return columns | {"accuracy": columns["open_exact"]}


def totals(
    records: Sequence[Record], predictions: Sequence[str], means: Mapping[str, float]
) -> dict[str, float]:
    """What the tool prints under other names, and the answers that stop it."""
    opened = [
        _answer(text)
        for record, text in zip(records, predictions, strict=True)
        if record.answer_type == "OPEN"
    ]
    return printed_totals(opened, means)


PROFILE = Profile(
    name="medevalkit-slake",
    version="1",
    summary="MedEvalKit's rule for SLAKE, without a judge",
    metrics=(
        Metric("closed_accuracy_by_type", "closed ACC (type)", "CLOSED: equal but for full stops."),
        *OPEN_METRICS,
        Metric("accuracy", "ACC", "Right closed answers and open EM, over all questions."),
    ),
    prepare=rule_for_each(score_question),
    source=f"{COMMIT}, utils/utils.py and utils/SLAKE/SLAKE.py",
    total_metrics=TOTAL_METRICS,
    totals=totals,
)
