"""Med-R1: one word in the answer element equals the letter, case included.

Counts trained models by the tags and base models by their whole output, which is a trap in the paper's
gains, so all three rules stand side by side: quote the one of the row that you compare with.
"""

from __future__ import annotations

import re

from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import ChoiceQuestion, rule_for_choices

_TAGGED = re.compile(r"<answer>\s*(\w+)\s*</answer>")


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """All columns."""
    found = _TAGGED.search(prediction)
    tagged = bool(found and found[1] == question.right)
    whole = prediction.strip() == question.right
    either = tagged if "answer" in prediction else whole
    return {
        "choice_accuracy": float(tagged),
        "choice_accuracy_whole": float(whole),
        "choice_accuracy_either": float(either),
    }


PROFILE = Profile(
    name="med-r1",
    version="1",
    summary="Med-R1's tagged letter",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "The word in the answer element is the letter."),
        Metric("choice_accuracy_whole", "choice ACC (whole)", "The whole output is the letter."),
        Metric(
            "choice_accuracy_either",
            "choice ACC (tags or whole)",
            "By tags where the word answer occurs, else the whole output.",
        ),
    ),
    prepare=rule_for_choices(score_question),
    source="Yuxiang-Lai117/Med-R1 88d76c7, src/eval_vqa/test_qwen2vl_vqa.py",
)
