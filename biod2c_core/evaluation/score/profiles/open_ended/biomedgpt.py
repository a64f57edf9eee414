"""BiomedGPT's own score: the same text as the gold, letter by letter.

Counts all questions alike. The gold is in lower case, the answer is only stripped, so a capital costs
the point. The authors let the model choose among all answers of training and test.
"""

from __future__ import annotations

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.profiles.base import Profile, accuracy_metric, rule_for_each


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """The one column."""
    return {"accuracy": float(record.answer.lower().strip() == prediction.strip())}


PROFILE = Profile(
    name="biomedgpt",
    version="1",
    summary="BiomedGPT's own score: equal text, case included",
    metrics=(accuracy_metric("Equal text, case included; all questions."),),
    prepare=rule_for_each(score_question),
    source="taokz/BiomedGPT 2c739bd, utils/eval_utils.py and tasks/mm_tasks/vqa_gen.py",
)
