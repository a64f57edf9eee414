"""MedEvalKit (Lingshu), multiple choice: PMC-VQA, OmniMedVQA, MedXpertQA-MM, MedFrameQA.

Counts a letter or a whole choice line; any other answer is compared by characters with the lines
"A. text", letters included, and the first line stands for an answer that resembles none.
"""

from __future__ import annotations

from biod2c_core.evaluation.score.extract import after_markers, answer_elements
from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import (
    ChoiceQuestion,
    first_nearest,
    rule_for_choices,
)
from biod2c_core.evaluation.score.profiles.open_ended.medevalkit import COMMIT

LINE = "{}. {}"


def chosen(question: ChoiceQuestion, prediction: str, line: str = LINE) -> str:
    """The letter that an answer stands for.

    Args:
        question: With its choices.
        prediction: The answer.
        line: How the choices are written: ``{}. {}``, or ``{}:{}`` as in PMC-VQA's table.
    """
    letters = [letter.lower() for letter in question.choices]
    text = answer_elements(prediction).lower()
    first, last = text.split("\n\n")[0], text.split("\n\n")[-1].split(".")[0]
    text = first if first in letters else last if last in letters else text
    text = after_markers(text).strip().replace("\n", "")
    said = text.split(".")[0].split(":")[-1]
    if said in letters:
        return said.upper()
    lines = [choice.lower() for choice in question.lines(line)]
    place = lines.index(said) if said in lines else first_nearest(lines, text)
    return letters[place].upper()


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """The one column."""
    return {"choice_accuracy": float(chosen(question, prediction) == question.right)}


PROFILE = Profile(
    name="medevalkit-mcq",
    version="1",
    summary="MedEvalKit, multiple choice",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "The letter, line or nearest line is right."),
    ),
    prepare=rule_for_choices(score_question),
    source=f"{COMMIT}, utils/utils.py judge_multi_choice",
)
