"""What a scoring convention is: a name, a version, its columns, and a rule for one question.

Every column is a mean, over the questions that it applies to, of one number in [0, 1] a question.
So a profile only says, for one question, which columns apply and what they are; means, intervals
and tests are then the same code for all profiles. The few numbers that are no such mean (what a tool
prints by mistake, pairs of questions) are its totals, which have no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.normalize import closed_answer

QuestionScorer = Callable[[Record, str], dict[str, float]]
Totals = Callable[[Sequence[Record], Sequence[str], Mapping[str, float]], dict[str, float]]


@dataclass(frozen=True)
class Metric:
    """A column of a result.

    Attributes:
        key: Name in JSON.
        label: Short heading for people.
        meaning: One sentence that defines it.
        ranked: Whether more of it is better, so that systems can be compared by it.
    """

    key: str
    label: str
    meaning: str
    ranked: bool = True


@dataclass(frozen=True)
class JudgeRule:
    """How a convention has a language model decide.

    Attributes:
        rubric: The instructions, with ``{question}``, ``{answer}`` (the gold) and ``{prediction}``.
        read: From the judge's reply to 1 for right, 0 for wrong; None where it says neither, and the
            next attempt is made.
        applies: Whether a question is sent to the judge.
        columns: From record, verdict and the columns by rule to all columns of the question.
        temperatures: One an attempt; after the last the answer is wrong.
        prepare_answer: What the convention cuts out of the prediction before the judge sees it.
    """

    rubric: str
    read: Callable[[str], float | None]
    applies: Callable[[Record], bool]
    columns: Callable[[Record, float | None, Mapping[str, float]], dict[str, float]]
    temperatures: tuple[float, ...] = (0.0,)
    prepare_answer: Callable[[str], str] = str

    def messages(self, record: Record, prediction: str) -> list[dict[str, Any]]:
        """The chat messages for one question."""
        values = {
            "{question}": record.question,
            "{answer}": record.answer,
            "{prediction}": self.prepare_answer(prediction),
        }
        text = "".join(values.get(part, part) for part in _parts(self.rubric))
        return [{"role": "user", "content": text}]


def _parts(rubric: str) -> list[str]:
    """The rubric cut at its three places, so that what is put in is never read as a place."""
    parts = [rubric]
    for place in ("{question}", "{answer}", "{prediction}"):
        parts = [
            piece
            for part in parts
            for index, text in enumerate(part.split(place))
            for piece in ([place, text] if index else [text])
        ]
    return parts


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
        source: Code and commit, or paper, that the convention was read from.
        total_metrics: Numbers that are no mean over questions, in order.
        totals: From records, predictions and the columns' means to {total's key: value}.
        judge: How a language model decides; None where none does.
    """

    name: str
    version: str
    summary: str
    metrics: tuple[Metric, ...]
    prepare: Callable[[Sequence[Record]], QuestionScorer]
    source: str = ""
    total_metrics: tuple[Metric, ...] = ()
    totals: Totals | None = None
    judge: JudgeRule | None = None


def rule_for_each(rule: QuestionScorer) -> Callable[[Sequence[Record]], QuestionScorer]:
    """A ``prepare`` for a rule that needs nothing of the other records."""
    return lambda _records: rule


def by_answer_type(record: Record, correct: float) -> dict[str, float]:
    """Place a question's correctness in the accuracy column of its ``answer_type``."""
    column = {"CLOSED": "closed_accuracy_by_type", "OPEN": "open_accuracy_by_type"}
    return {column[record.answer_type]: correct} if record.answer_type else {}


def accuracy_columns(record: Record, correct: float) -> dict[str, float]:
    """Place a question's correctness in the accuracy columns by yes/no gold and by type."""
    column = "closed_accuracy" if closed_answer(record.answer) else "open_accuracy"
    return {column: correct} | by_answer_type(record, correct)


def accuracy_metric(meaning: str) -> Metric:
    """The column of right answers over all questions that a convention counts."""
    return Metric("accuracy", "ACC", meaning)


ACCURACY_METRICS = (
    Metric("closed_accuracy", "closed ACC", "Accuracy where the gold answer is yes or no."),
    Metric("open_accuracy", "open ACC", "Accuracy on all other questions."),
)
BY_TYPE_METRICS = (
    Metric("closed_accuracy_by_type", "closed ACC (type)", "Accuracy on records marked CLOSED."),
    Metric("open_accuracy_by_type", "open ACC (type)", "Accuracy on records marked OPEN."),
)
