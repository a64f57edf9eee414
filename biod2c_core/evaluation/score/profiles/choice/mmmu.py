"""MMMU's letter parser, as MedEvalKit carries it.

Counts the last letter in brackets, else between blanks, else the last choice text in a longer answer.
An answer without any gets a random letter in the tool, so its scores cannot be repeated; here ``choice
ACC`` has the expected value instead, and the other two columns say what is behind it. The tool counts
each open question of the validation split as wrong; only multiple choice is counted here.
"""

from __future__ import annotations

from biod2c_core.evaluation.score.extract import final_answer
from biod2c_core.evaluation.score.profiles.base import Metric, Profile
from biod2c_core.evaluation.score.profiles.choice.question import ChoiceQuestion, rule_for_choices
from biod2c_core.evaluation.score.profiles.open_ended.medevalkit import COMMIT

_ENDS = ",.!?;:'"
_FEW_WORDS = 5


def chosen(question: ChoiceQuestion, prediction: str) -> str:
    """The letter that the parser finds; empty where the tool draws one."""
    text = final_answer(prediction).strip()
    for mark in _ENDS:
        text = text.strip(mark)
    text = f" {text} "
    for form in ("({})", " {} "):
        places = {letter: text.rfind(form.format(letter)) for letter in question.choices}
        if max(places.values()) >= 0:
            return max(places, key=lambda letter: places[letter])
    if len(text.split()) <= _FEW_WORDS:
        return ""
    lowered = text.lower()
    places = {letter: lowered.rfind(choice.lower()) for letter, choice in question.choices.items()}
    return max(places, key=lambda letter: places[letter]) if max(places.values()) >= 0 else ""


def score_question(question: ChoiceQuestion, prediction: str) -> dict[str, float]:
    """All columns."""
    letter = chosen(question, prediction)
    right = float(letter == question.right)
    return {
        "choice_accuracy": right if letter else 1 / len(question.choices),
        "choice_accuracy_parsed": right,
        "unparsed": float(not letter),
    }


PROFILE = Profile(
    name="mmmu",
    version="1",
    summary="MMMU's letter parser (MedEvalKit's copy)",
    metrics=(
        Metric("choice_accuracy", "choice ACC", "Unparsed answers count as a random letter would."),
        Metric("choice_accuracy_parsed", "choice ACC (parsed)", "Unparsed answers are wrong."),
        Metric(
            "unparsed", "unparsed", "Share of answers in which no choice is found.", ranked=False
        ),
    ),
    prepare=rule_for_choices(score_question),
    source=f"{COMMIT}, utils/MMMU/eval_utils.py",
)
