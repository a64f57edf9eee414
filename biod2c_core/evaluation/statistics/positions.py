"""Whether answers to multiple choice hang on where the right choice stands.

A model that prefers a letter chooses it more often than it is right, and is right more often where the
right choice stands there. Both are given letter by letter with intervals over images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from biod2c_core.data.formats.fields.choices import LETTERS, choice_meant
from biod2c_core.evaluation.score.profiles.choice.question import choice_question
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.evaluation.statistics.intervals import Estimate, matrix_intervals


@dataclass(frozen=True)
class Position:
    """One letter.

    Attributes:
        letter: Which.
        right: How many questions have their right choice there.
        chosen: How many answers mean it.
        bias: Share of answers that mean it, minus share of questions where it is right.
        accuracy: Share of right answers where the right choice stands there.
    """

    letter: str
    right: int
    chosen: int
    bias: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class PositionBias:
    """What the letters have to do with the answers.

    Attributes:
        questions: Multiple-choice questions whose right choice is known.
        unread: Answers that mean no choice; they count as wrong.
        spread: Standard deviation of the accuracies by place; 0 where place does not matter.
        positions: One a letter.
    """

    questions: int
    unread: int
    spread: float
    positions: tuple[Position, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return asdict(self)


def position_bias(questions: Sequence[ScoredQuestion]) -> PositionBias | None:
    """Count letters; None where no question is multiple choice.

    An answer means the choice of its text, else the one whose letter it gives; see
    :func:`~biod2c_core.data.formats.fields.choices.choice_meant`.
    """
    asked = [(q, found) for q in questions if (found := choice_question(q.record))]
    if not asked:
        return None
    gold = [found.right for _, found in asked]
    said = [choice_meant(found.choices, question.prediction.answer) for question, found in asked]
    letters = [each for each in LETTERS if any(each in found.choices for _, found in asked)]
    columns = np.full((len(asked), 2 * len(letters)), np.nan)
    for row, (right, meant) in enumerate(zip(gold, said, strict=True)):
        for place, letter in enumerate(letters):
            columns[row, place] = float(meant == letter) - float(right == letter)
            if right == letter:
                columns[row, len(letters) + place] = float(meant == right)
    records = [question.record for question, _ in asked]
    estimates = matrix_intervals(records, columns)
    accuracies = estimates[len(letters) :]
    known = [each.value for each in accuracies if each.value is not None]
    return PositionBias(
        questions=len(asked),
        unread=said.count(""),
        spread=float(np.std(known)),
        positions=tuple(
            Position(letter, gold.count(letter), said.count(letter), bias, accuracy)
            for letter, bias, accuracy in zip(letters, estimates, accuracies, strict=False)
        ),
    )
