"""MedVLThinker and MedVLSynther: the final answer equals letter, text or both.

Counts "B", "left kidney" and "B. left kidney", ignoring case; "B." and "(B)" are wrong. The regraded
accuracy is the published one. Over several data sets the authors take the plain mean of data sets.
"""

from __future__ import annotations

import re

from biod2c_core.evaluation.score.extract import elements
from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import ChoiceQuestion, rule_for_choices

_TAGS = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
_MARKERS = ("answer:", "answer is:", "answer is", "is:")


def first_pass(text: str) -> str:
    """The first answer element, else the whole text."""
    found = elements(text, "answer", ignore_case=True)
    return (found[0] if found else text).strip()


def regraded(text: str) -> str:
    """The first line of the last answer element, else what follows the last "answer:" and the like."""
    if found := elements(text, "answer", ignore_case=True):
        said = found[-1].strip().split("\n")[0]
        return _TAGS.sub("", said).strip()
    lowered = text.lower()
    for marker in _MARKERS:
        if (place := lowered.rfind(marker)) >= 0:
            text = text[place + len(marker) :].strip().split("\n")[0]
            break
    return _TAGS.sub("", text).strip()


def _is_right(question: ChoiceQuestion, said: str) -> bool:
    gold = question.choices[question.right]
    accepted = (f"{question.right}. {gold}", question.right, gold)
    return said.lower() in [text.lower() for text in accepted]


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """All columns."""
    said = regraded(prediction)
    right = _is_right(question, said)
    contained = question.choices[question.right].lower() in said.lower()
    return {
        "choice_accuracy": float(right),
        "choice_accuracy_first_pass": float(_is_right(question, first_pass(prediction))),
        "choice_accuracy_contained": float(right or contained),
    }


PROFILE = Profile(
    name="medvlthinker",
    version="1",
    summary="MedVLThinker's regraded accuracy",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "Regraded, the published number."),
        Metric("choice_accuracy_first_pass", "choice ACC (first pass)", "Before regrading."),
        Metric("choice_accuracy_contained", "choice ACC (contained)", "Its llava_med_rule."),
    ),
    prepare=rule_for_choices(score_question),
    source="UCSC-VLAA/MedVLSynther 9df6f3b, eval/regrade_eval_results.py",
)
