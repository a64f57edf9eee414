"""A reading of MedGemma's model card; Google has published no code, so no official number exists.

Counts: token F1 as in SQuAD over all questions, and closed questions (gold yes or no) by the first of
the words yes and no in the answer. The card's VQA-RAD numbers are on another split.
"""

from __future__ import annotations

import string
from collections import Counter

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, rule_for_each

_MARKS = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset({"a", "an", "the"})


def _tokens(text: str) -> list[str]:
    words = text.lower().translate(_MARKS).split()
    return [word for word in words if word not in _ARTICLES]


def token_f1(gold: list[str], predicted: list[str]) -> float:
    """F1 of two multisets of words; 1 where both are empty."""
    if not gold or not predicted:
        return float(gold == predicted)
    same = sum((Counter(gold) & Counter(predicted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question."""
    gold, predicted = _tokens(record.answer), _tokens(prediction)
    values = {"token_f1": token_f1(gold, predicted)}
    if gold in (["yes"], ["no"]):
        said = next((word for word in predicted if word in ("yes", "no")), "")
        values |= {
            "closed_accuracy": float(said == gold[0]),
            "closed_exact": float(gold == predicted),
        }
    return values


PROFILE = Profile(
    name="medgemma-reading",
    version="1",
    summary="a reading of MedGemma's model card; there is no official code",
    metrics=(
        Metric("token_f1", "token F1", "SQuAD's F1 of words, all questions (a reading)."),
        Metric("closed_accuracy", "closed ACC", "The first yes or no is the gold (a reading)."),
        Metric("closed_exact", "closed EM", "The whole answer is the gold (a reading)."),
    ),
    prepare=rule_for_each(score_question),
    source="model card of google/medgemma; no scoring in Google-Health/medgemma ff57e8c",
)
