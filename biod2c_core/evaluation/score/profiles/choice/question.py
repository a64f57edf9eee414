"""What the conventions for multiple choice need of a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cydifflib import SequenceMatcher

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.choices import choices_of
from biod2c_core.evaluation.score.profiles.base import QuestionScorer


@dataclass(frozen=True)
class ChoiceQuestion:
    """The choices of a record and which is right.

    Attributes:
        choices: Letter to text, in order.
        right: The right letter.
    """

    choices: Mapping[str, str]
    right: str

    def lines(self, form: str) -> list[str]:
        """The choices as a tool writes them, such as ``{}. {}``."""
        return [form.format(letter, text) for letter, text in self.choices.items()]


def choice_question(record: Record) -> ChoiceQuestion | None:
    """The multiple-choice question of a record; None where it has no choices or names no right one."""
    if not record.tags:
        return None
    return _choice_question(tuple(record.tags.items()), record.answer)


@lru_cache(maxsize=1 << 10)  # every profile asks for the same record
def _choice_question(tags: tuple[tuple[str, str], ...], answer: str) -> ChoiceQuestion | None:
    record = Record("", "", "", answer, tags=dict(tags))
    choices = choices_of(record)
    label = record.tags.get("answer_label", "").strip().upper()
    if label not in choices:
        gold = answer.strip()
        same = [letter for letter, text in choices.items() if text == gold]
        label = same[0] if same else gold if gold in choices else ""
    return ChoiceQuestion(choices, label) if label else None


def rule_for_choices(
    rule: Callable[[ChoiceQuestion, str], dict[str, float]],
) -> Callable[[Sequence[Record]], QuestionScorer]:
    """A ``prepare`` for a rule that applies to multiple choice alone."""

    def score_question(record: Record, prediction: str) -> dict[str, float]:
        question = choice_question(record)
        return rule(question, prediction) if question else {}

    return lambda _records: score_question


def ratios(choices: Iterable[str], text: str) -> list[float]:
    """Difflib's ratio of each choice to a text, the choice first."""
    matcher = SequenceMatcher(None, "", text)
    found = []
    for choice in choices:
        matcher.set_seq1(choice)
        found.append(matcher.ratio())
    return found


def first_nearest(choices: Sequence[str], text: str) -> int:
    """Place of the most similar choice, the first of equals, so 0 where nothing is similar."""
    found = ratios(choices, text)
    return found.index(max(found))


def last_nearest(choices: Sequence[str], text: str) -> int:
    """Place of the most similar choice, the last of equals."""
    found = ratios(choices, text)
    return len(found) - 1 - found[::-1].index(max(found))
