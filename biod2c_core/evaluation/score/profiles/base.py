"""What a scoring convention is: a name, a version, its columns, and a rule for one question.

Every column is a mean, over the questions that it applies to, of one number in [0, 1] a question.
So a profile only says, for one question, which columns apply and what they are; means, intervals
and tests are then the same code for all profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.normalize import closed_answer

QuestionScorer = Callable[[Record, str], dict[str, float]]


@dataclass(frozen=True)
class Metric:
    """A column of a result.

    Attributes:
        key: Name in JSON.
        label: Short heading for people.
        meaning: One sentence that defines it.
    """

    key: str
    label: str
    meaning: str


@dataclass(frozen=True)
class Profile:
    """A scoring convention.

    Attributes:
        name: What ``--profile`` takes.
        version: Raised whenever a number can change; part of every result.
        summary: Whose convention it is.
        metrics: The columns, in order.
        prepare: Takes all records of the split, gives the rule for one question. The rule maps
            record and prediction to {metric key: value}, leaving out what does not apply.
    """

    name: str
    version: str
    summary: str
    metrics: tuple[Metric, ...]
    prepare: Callable[[Sequence[Record]], QuestionScorer]


def by_answer_type(record: Record, correct: float) -> dict[str, float]:
    """Place a question's correctness in the accuracy column of its ``answer_type``."""
    column = {"CLOSED": "closed_accuracy_by_type", "OPEN": "open_accuracy_by_type"}
    return {column[record.answer_type]: correct} if record.answer_type else {}


def accuracy_columns(record: Record, correct: float) -> dict[str, float]:
    """Place a question's correctness in the accuracy columns by yes/no gold and by type."""
    column = "closed_accuracy" if closed_answer(record.answer) else "open_accuracy"
    return {column: correct} | by_answer_type(record, correct)


ACCURACY_METRICS = (
    Metric("closed_accuracy", "closed ACC", "Accuracy where the gold answer is yes or no."),
    Metric("open_accuracy", "open ACC", "Accuracy on all other questions."),
)
BY_TYPE_METRICS = (
    Metric("closed_accuracy_by_type", "closed ACC (type)", "Accuracy on records marked CLOSED."),
    Metric("open_accuracy_by_type", "open ACC (type)", "Accuracy on records marked OPEN."),
)
