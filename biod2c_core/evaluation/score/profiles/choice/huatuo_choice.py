"""HuatuoGPT-Vision: the first letter that stands alone, else a choice's text, else the nearest.

Probable, not certain: the authors' repository has no scoring; this is the ``scorer.py`` of a fork. The
letter is taken as it stands, so "b" is not B and the "I" of "I cannot tell" is an answer. Its paper's
numbers for VQA-RAD, SLAKE and PathVQA are of closed questions only, made into choices.
"""

from __future__ import annotations

import re

from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import (
    ChoiceQuestion,
    last_nearest,
    rule_for_choices,
)

_LETTER = re.compile(r"(?:^|is |\u662f|\u4e3a|\W)(?![aA] )([a-nA-N])(?=\W|$)")


def chosen(question: ChoiceQuestion, prediction: str) -> tuple[str, int]:
    """The letter that an answer stands for, and the stage (1 to 3) that found it."""
    if found := _LETTER.search(prediction):
        return found[1], 1
    lowered = prediction.lower()
    places = {letter: lowered.rfind(text.lower()) for letter, text in question.choices.items()}
    letter = max(places, key=lambda name: (places[name], name))
    if places[letter] >= 0:
        return letter, 2
    return list(question.choices)[last_nearest(list(question.choices.values()), prediction)], 3


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """All columns."""
    letter, stage = chosen(question, prediction)
    return {
        "choice_accuracy": float(letter == question.right),
        **{f"stage_{number}": float(stage == number) for number in (1, 2, 3)},
    }


PROFILE = Profile(
    name="huatuo-choice",
    version="1",
    summary="HuatuoGPT-Vision's choices (from a fork)",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "Multiple choice: the letter found is right."),
        Metric("stage_1", "by letter", "Share of answers decided by a letter.", ranked=False),
        Metric("stage_2", "by text", "Share of answers decided by a choice's text.", ranked=False),
        Metric(
            "stage_3",
            "by similarity",
            "Share of answers decided by the nearest choice.",
            ranked=False,
        ),
    ),
    prepare=rule_for_choices(score_question),
    source="xk-huang/HuatuoGPT-Vision 02207cf, scorer.py (a fork)",
)
