"""PMC-VQA: a prediction counts as the answer it is most similar to."""

from __future__ import annotations

from collections.abc import Sequence

from biod2c_core.data.records import Record
from biod2c_core.evaluation.metrics import nearest
from biod2c_core.evaluation.profiles.base import (
    ACCURACY_METRICS,
    BY_TYPE_METRICS,
    Metric,
    Profile,
    QuestionScorer,
    accuracy_columns,
)


def prepare(records: Sequence[Record]) -> QuestionScorer:
    """Collect the labels that predictions are compared with.

    A record with choices is compared with these; any other with all distinct gold answers of the
    split. Letters keep their case. Labels are sorted, so that ties do not depend on the order of
    the records.
    """
    labels = sorted({record.answer for record in records})
    known: dict[str, str | None] = {}

    def score_question(record: Record, prediction: str) -> dict[str, float]:
        text = prediction.strip()
        if choices := choices_of(record):
            found = nearest(list(choices.values()), choices.get(text.upper().rstrip(".):"), text))
            return {"choice_accuracy": float(found == record.answer)}
        if text not in known:
            known[text] = nearest(labels, text)
        return accuracy_columns(record, float(known[text] == record.answer))

    return score_question


def choices_of(record: Record) -> dict[str, str]:
    """Letter to text of a multiple-choice record; empty for others."""
    return {
        letter: record.tags[f"choice_{letter.lower()}"]
        for letter in "ABCD"
        if record.tags.get(f"choice_{letter.lower()}")
    }


PROFILE = Profile(
    name="pmc-vqa",
    version="1",
    summary="PMC-VQA: nearest label by difflib",
    metrics=(
        Metric(
            "choice_accuracy",
            "choice ACC",
            "Multiple choice: the most similar choice (or the one whose letter is given) is right.",
        ),
        *BY_TYPE_METRICS,
        *ACCURACY_METRICS,
    ),
    prepare=prepare,
)
