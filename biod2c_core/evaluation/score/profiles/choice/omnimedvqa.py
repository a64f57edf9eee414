"""OmniMedVQA's question-answering score: the choice whose text is most similar to the answer.

Counts the last of equally similar choices; letters have no meaning. The paper's second score, by the
likelihood of the choices, needs the model.
"""

from __future__ import annotations

from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import (
    ChoiceQuestion,
    last_nearest,
    rule_for_choices,
)


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """The one column."""
    texts = list(question.choices.values())
    nearest = texts[last_nearest(texts, prediction)]
    return {"choice_accuracy": float(nearest == question.choices[question.right])}


PROFILE = Profile(
    name="omnimedvqa",
    version="1",
    summary="OmniMedVQA's nearest option",
    metrics=(Metric("choice_accuracy", "choice ACC", "The most similar choice is the gold."),),
    prepare=rule_for_choices(score_question),
    source="OpenGVLab/Multi-Modality-Arena, as copied in xk-huang/HuatuoGPT-Vision 02207cf",
)
