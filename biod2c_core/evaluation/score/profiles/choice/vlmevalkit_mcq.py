"""VLMEvalKit's exact matching for multiple choice: GMAI-MMBench, MedXpertQA-MM, OmniMedVQA.

Counts a choice letter among the last four words, "answer is" with a letter A to D, else the one choice
whose text is in the answer; anything else is wrong. With a judge the tool asks it about the unmatched
answers, whose share stands beside the accuracy. Its version moves scores: name the commit.
"""

from __future__ import annotations

import re

from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import ChoiceQuestion, rule_for_choices

NONE = "Z"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ANSWER_IS = re.compile(r"answer is\s*\**\s*([A-D])\b", re.IGNORECASE)
_LAST_WORDS = 4


def chosen(question: ChoiceQuestion, prediction: str) -> str:
    """The letter that matches; Z for a refusal, empty where nothing matches."""
    if any(phrase in prediction for phrase in _REFUSALS):
        return NONE
    words = prediction.translate(_MARKS).split()
    said = [letter for letter in question.choices if letter in words]
    if len(said) == 1 and words.index(said[0]) >= len(words) - _LAST_WORDS:
        return said[0]
    if not said and NONE in words:
        return NONE
    if found := _ANSWER_IS.search(prediction):
        return found[1].upper()
    if len(prediction) > 2 * sum(map(len, question.choices.values())):
        return ""
    lowered = prediction.lower()
    held = [letter for letter, text in question.choices.items() if text.lower() in lowered]
    return held[0] if len(held) == 1 else ""


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """All columns."""
    letter = chosen(question, prediction)
    return {
        "choice_accuracy": float(letter == question.right),
        "unmatched": float(not letter),
    }


PROFILE = Profile(
    name="vlmevalkit-mcq",
    version="1",
    summary="VLMEvalKit's exact matching, multiple choice",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "Multiple choice: the matched letter is right."),
        Metric(
            "unmatched",
            "unmatched",
            "Share of answers that match no choice; wrong here.",
            ranked=False,
        ),
    ),
    prepare=rule_for_choices(score_question),
    source="open-compass/VLMEvalKit e8e78f0, vlmeval/utils/matching_util.py",
)
