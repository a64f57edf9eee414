"""VILA-M3's own score: equal but for case and blanks around it.

Counts all questions of VQA-RAD and SLAKE alike; of PathVQA its script takes the yes/no questions only
(here ``closed ACC``) and does not strip their answers.
"""

from __future__ import annotations

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.normalize import closed_answer
from biod2c_core.evaluation.score.profiles.base import (
    Metric,
    Profile,
    accuracy_metric,
    rule_for_each,
)


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question."""
    gold = record.answer.strip().lower()
    values = {"accuracy": float(gold == prediction.strip().lower())}
    if closed_answer(record.answer):
        values["closed_accuracy"] = float(gold == prediction.lower())
    return values


PROFILE = Profile(
    name="vila-m3",
    version="1",
    summary="VILA-M3's own score: equal but for case",
    metrics=(
        accuracy_metric("Equal but for case and outer blanks; all questions (VQA-RAD, SLAKE)."),
        Metric("closed_accuracy", "closed ACC", "Yes/no questions, not stripped (PathVQA)."),
    ),
    prepare=rule_for_each(score_question),
    source="Project-MONAI/VLM-Radiology-Agent-Framework fc8c5a7, m3/eval/scripts",
)
