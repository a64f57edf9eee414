"""PMC-VQA's description: a prediction counts as the answer it is most similar to.

The released code computes no open and no closed score for VQA-RAD or SLAKE, and what the labels are
that an answer is compared with is not said. That choice alone moves closed accuracy by a tenth on the
same answers, so both readings stand here and neither is claimed to be the paper's: all distinct golds
of the split ("all labels"), and those of questions of the same kind ("own labels": yes and no for a
closed question). For multiple choice the letter rule of this profile is in neither of the authors'
scripts either; these are ``pmc-vqa-td`` and ``pmc-vqa-te``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from biod2c_core.data.formats.fields.choices import choice_meant
from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.choices import choices_of
from biod2c_core.evaluation.score.metrics import nearest, nearest_of
from biod2c_core.evaluation.score.normalize import closed_answer
from biod2c_core.evaluation.score.profiles.base import (
    ACCURACY_METRICS,
    BY_TYPE_METRICS,
    Metric,
    Profile,
    QuestionScorer,
    accuracy_columns,
)

LABEL_LISTS = (
    ("", "all labels", "Labels: all golds of the split."),
    ("_own_labels", "own labels", "Labels: the golds of questions of the same kind."),
)


def prepare(records: Sequence[Record]) -> QuestionScorer:
    """Collect the labels that predictions are compared with.

    A record with choices is compared with these; any other with all distinct gold answers of the
    split, and once more with those of its own kind. Letters keep their case, runs of blanks count as
    one. Labels are sorted, so that ties do not depend on the order of the records.
    """
    free = [record for record in records if not choices_of(record)] or records
    lists: dict[tuple[bool, str], list[str]] = {}
    for record in free:
        lists.setdefault(_kind(record), []).append(_single_blanks(record.answer))
    labels = sorted({label for found in lists.values() for label in found})
    own_labels = {kind: set(found) for kind, found in lists.items()}
    all_nearest = nearest_of(labels)
    own_nearest = {kind: nearest_of(sorted(found)) for kind, found in own_labels.items()}

    def score_question(record: Record, prediction: str) -> dict[str, float]:
        gold, text = _single_blanks(record.answer), _single_blanks(prediction)
        if choices := choices_of(record):
            return {
                "choice_accuracy": float(chosen(choices, text) == right_choice(record, choices))
            }
        closest = all_nearest(text)
        columns = accuracy_columns(record, float(closest == gold))
        if closest not in own_labels[_kind(record)]:
            closest = own_nearest[_kind(record)](text)
        own = accuracy_columns(record, float(closest == gold))
        return columns | {f"{key}_own_labels": value for key, value in own.items()}

    return score_question


def _kind(record: Record) -> tuple[bool, str]:
    return bool(closed_answer(record.answer)), record.answer_type


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
    version="3",
    summary="PMC-VQA's description: nearest label by difflib, for two lists of labels",
    metrics=(
        Metric(
            "choice_accuracy",
            "choice ACC",
            "Multiple choice: the most similar choice (or the one whose letter is given) is right.",
        ),
        *(
            replace(
                metric,
                key=f"{metric.key}{key}",
                label=f"{metric.label}, {label}",
                meaning=f"{metric.meaning} {meaning}",
            )
            for key, label, meaning in LABEL_LISTS
            for metric in (*BY_TYPE_METRICS, *ACCURACY_METRICS)
        ),
    ),
    prepare=prepare,
    source="the paper's words and the author's answer in issue #3 of xiaoman-zhang/PMC-VQA; no code",
)
