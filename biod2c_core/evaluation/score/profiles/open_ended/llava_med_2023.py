"""LLaVA-Med as released from May to 11 December 2023, before its authors mended closed accuracy.

Counts as ``llava-med``, except that a wrong closed answer with yes or no in it is left out of the mean:
who always says "no" then reaches 1.0 on VQA-RAD. Quote it only beside numbers of that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.profiles.base import Metric, QuestionScorer
from biod2c_core.evaluation.score.profiles.open_ended import llava_med

_OLD, _NEW = "closed_accuracy_2023", "closed_accuracy_by_type"


def prepare(records: Sequence[Record]) -> QuestionScorer:
    """LLaVA-Med's rule with the old closed column in the place of the new one."""
    rule = llava_med.prepare(records)

    def score_question(record: Record, prediction: str) -> dict[str, float]:
        values = rule(record, prediction)
        values.pop(_NEW, None)
        values.pop("closed_accuracy", None)
        if _OLD in values:
            values[_NEW] = values.pop(_OLD)
        return values

    return score_question


PROFILE = replace(
    llava_med.PROFILE,
    name="llava-med-2023",
    version="1",
    summary="LLaVA-Med's run_eval.py before its closed accuracy was mended (old)",
    metrics=(
        Metric(_NEW, "closed ACC (type)", "CLOSED; wrong answers with yes or no are left out."),
        *(
            metric
            for metric in llava_med.PROFILE.metrics
            if metric.key not in (_OLD, _NEW, "closed_accuracy")
        ),
    ),
    prepare=prepare,
    source="microsoft/LLaVA-Med before b9a98a7 (11 Dec 2023), llava/eval/run_eval.py",
)
