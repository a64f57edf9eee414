"""PMC-VQA: a prediction counts as the answer it is most similar to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from biod2c_core.data.formats.fields.choices import choice_meant
from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.choices import choices_of
from biod2c_core.evaluation.score.metrics import nearest
from biod2c_core.evaluation.score.profiles.base import (
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
    split. Letters keep their case, runs of blanks count as one. Labels are sorted, so that ties do
    not depend on the order of the records.
    """
    labels = sorted({_single_blanks(record.answer) for record in records})
    known: dict[str, str | None] = {}

    def score_question(record: Record, prediction: str) -> dict[str, float]:
        gold, text = _single_blanks(record.answer), _single_blanks(prediction)
        if choices := choices_of(record):
            return {
                "choice_accuracy": float(chosen(choices, text) == right_choice(record, choices))
            }
        if text not in known:
            known[text] = nearest(labels, text)
        return accuracy_columns(record, float(known[text] == gold))

    return score_question


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def chosen(choices: Mapping[str, str], text: str) -> str | None:
    """The letter of the choice that a prediction means: by its text, its letter, else the nearest.

    Args:
        choices: Letter to text.
        text: The prediction.

    Returns:
        None where no choice shares a character with the prediction.
    """
    if letter := choice_meant(choices, text):
        return letter
    closest = nearest(list(choices.values()), text)
    return next((letter for letter, choice in choices.items() if choice == closest), None)


def right_choice(record: Record, choices: Mapping[str, str]) -> str | None:
    """The letter of the right choice: as the record names it, else as its answer means it."""
    label = record.tags.get("answer_label", "")
    return label if label in choices else chosen(choices, _single_blanks(record.answer))


PROFILE = Profile(
    name="pmc-vqa",
    version="2",
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
