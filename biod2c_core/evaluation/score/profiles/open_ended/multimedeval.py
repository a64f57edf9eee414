"""MultiMedEval 1.0.0, whose definitions the paper's Table 1 uses (its "ROUGE-1" is token recall)."""

from __future__ import annotations

from collections.abc import Sequence

from biod2c_core.data.formats.fields.yes_no import polarity
from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.bleu import torchmetrics_bleu
from biod2c_core.evaluation.score.metrics import rouge_1, set_f1, set_recall
from biod2c_core.evaluation.score.normalize import closed_answer, vqa_clean
from biod2c_core.evaluation.score.profiles.base import (
    ACCURACY_METRICS,
    BY_TYPE_METRICS,
    Metric,
    Profile,
    QuestionScorer,
    by_answer_type,
)

CLOSED_RECALL = 0.4
OPEN_RECALL = 0.75


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question.

    A question is closed when its cleaned gold answer is yes or no. It is correct when at least 0.4
    of the gold tokens are in the prediction, where gold "no" also accepts "not" ({no, not}: one of
    the two is 0.5). Any other question is open and correct at token recall 0.75. A yes or no of
    another script is compared as such: its characters are in the opposite answer, too.
    """
    gold, predicted = vqa_clean(record.answer.lower().strip()), vqa_clean(prediction)
    gold_tokens, tokens = gold.split(), predicted.split()
    wanted, given = frozenset(gold_tokens), frozenset(tokens)
    recall = set_recall(wanted, given)
    values = {
        "bleu_1": torchmetrics_bleu(gold_tokens, tokens, 1)[0],
        "token_recall": recall,
        "token_f1": set_f1(wanted, given),
        "rouge_1": rouge_1(record.answer, prediction),
    }
    if gold in ("yes", "no"):
        accepted = {"no", "not"} if gold == "no" else {gold}
        correct = float(set_recall(accepted, given) >= CLOSED_RECALL)
        values["closed_accuracy"] = correct
    elif closed := closed_answer(record.answer):  # of another script; the package calls it open
        correct = float(polarity(prediction) == closed)
        values["closed_accuracy"] = correct
    else:
        correct = float(recall >= OPEN_RECALL)
        values |= {"open_accuracy": correct, "open_recall": recall}
    return values | by_answer_type(record, correct)


def prepare(_records: Sequence[Record]) -> QuestionScorer:
    """The rule needs nothing of the other records."""
    return score_question


PROFILE = Profile(
    name="multimedeval",
    version="2",
    summary="MultiMedEval 1.0.0, the definitions behind the paper's Table 1",
    metrics=(
        *ACCURACY_METRICS,
        Metric("bleu_1", "BLEU-1", "Mean sentence BLEU-1 of the cleaned texts, all questions."),
        Metric(
            "token_recall",
            "token recall",
            'Mean recall of the distinct gold tokens, all questions; "ROUGE-1" in the paper.',
        ),
        Metric("token_f1", "token F1", "Mean F1 of the distinct tokens, all questions."),
        Metric("open_recall", "open token recall", "Mean token recall of the open questions."),
        Metric(
            "rouge_1",
            "ROUGE-1 (rouge-score)",
            "Mean ROUGE-1 F-measure (rouge-score), all questions.",
        ),
        *BY_TYPE_METRICS,
    ),
    prepare=prepare,
    source="multimedeval 1.0.0 on PyPI",
)
