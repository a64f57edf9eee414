"""PMC-VQA's script for MedVInT-TE: the choice letter most similar to the whole output.

Counts the first letter that the output holds, case included, in the order of the letters.
"""

from __future__ import annotations

from biod2c_core.evaluation.score.metrics import nearest
from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.pmc_vqa_td import COMMIT
from biod2c_core.evaluation.score.profiles.choice.question import ChoiceQuestion, rule_for_choices


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """The one column."""
    said = nearest(list(question.choices), prediction)
    return {"choice_accuracy": float(said == question.right)}


PROFILE = Profile(
    name="pmc-vqa-te",
    version="1",
    summary="PMC-VQA's script for MedVInT-TE: the nearest letter",
    metrics=(Metric("choice_accuracy", "choice ACC", "The letter nearest to the output."),),
    prepare=rule_for_choices(score_question),
    source=f"{COMMIT}, src/MedVInT_TE/test.py",
)
