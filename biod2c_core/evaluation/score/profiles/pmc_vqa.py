"""PMC-VQA: a prediction counts as the answer it is most similar to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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

_LETTER = re.compile(r"\(?([A-Da-d])(?:[):.]|$)")


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
            return {"choice_accuracy": float(chosen(choices, text) == record.answer)}
        if text not in known:
            known[text] = nearest(labels, text)
        return accuracy_columns(record, float(known[text] == gold))

    return score_question


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def chosen(choices: Mapping[str, str], text: str) -> str | None:
    """The choice that a prediction means: by its letter ("B", "(B)", "B: left lung"), else nearest.

    Args:
        choices: Letter to text.
        text: The prediction.
    """
    if (letter := _LETTER.match(text)) and letter[1].upper() in choices:
        return choices[letter[1].upper()]
    return nearest(list(choices.values()), text)


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
