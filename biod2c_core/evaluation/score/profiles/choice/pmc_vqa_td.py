"""PMC-VQA's script for MedVInT-TD: the last character of the output stands for a choice.

Counts the choice text most similar to that one character, and the gold likewise. The script stops at an
empty output; here it is wrong, and counted. The choice nearest to the whole output stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.metrics import nearest
from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import (
    ChoiceQuestion,
    choice_question,
    rule_for_choices,
)

COMMIT = "xiaoman-zhang/PMC-VQA 1678ec2"
LINE = " {}:{}"


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """Both columns."""
    lines, texts = question.lines(LINE), list(question.choices.values())
    gold = LINE.format(question.right, question.choices[question.right])
    said = nearest(lines, prediction[-1:])
    whole = nearest(texts, " ".join(prediction.split()))
    return {
        "choice_accuracy": float(said == nearest(lines, gold)),
        "choice_accuracy_text": float(whole == question.choices[question.right]),
    }


def totals(
    records: Sequence[Record], predictions: Sequence[str], _means: Mapping[str, float]
) -> dict[str, float]:
    """The outputs that stop the script."""
    empty = (
        not text and choice_question(record) is not None
        for record, text in zip(records, predictions, strict=True)
    )
    return {"empty_answers": float(sum(empty))}


PROFILE = Profile(
    name="pmc-vqa-td",
    version="1",
    summary="PMC-VQA's script for MedVInT-TD: the last character",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "The choice nearest to the last character."),
        Metric(
            "choice_accuracy_text", "choice ACC (text)", "The text nearest to the whole output."
        ),
    ),
    prepare=rule_for_choices(score_question),
    source=f"{COMMIT}, src/MedVInT_TD/test.py",
    total_metrics=(Metric("empty_answers", "empty answers", "How many outputs stop the script."),),
    totals=totals,
)
