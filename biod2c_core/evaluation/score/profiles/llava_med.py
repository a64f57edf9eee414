"""LLaVA-Med: closed questions by substring, open ones by token recall, told apart by answer type.

Two flaws of the convention are kept, because the published numbers have them: "no" is found inside
"abnormal", and a closed question whose gold is neither yes nor no is wrong unless the prediction
happens to contain one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from biod2c_core.data.formats.fields.yes_no import polarity
from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.metrics import bleu_1, covered_share, multiset_overlap
from biod2c_core.evaluation.score.normalize import closed_answer, vqa_clean
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, QuestionScorer


def closed_by_substring(gold: str, predicted: str) -> float:
    """1 if the prediction contains "yes" or "no" and the gold, anywhere, even inside a word."""
    answers = "yes" in predicted or "no" in predicted
    return float(answers and gold in predicted)


def released_accuracy(correct: float, says_yes_or_no: bool) -> dict[str, float]:
    """The released script's column: a wrong answer with yes or no in it is left out of the mean."""
    left_out = not correct and says_yes_or_no
    return {} if left_out else {"closed_accuracy_released": correct}


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question.

    The released functions that compare words clean the already cleaned texts again, which is not
    the same as once. A yes or no of another script, of which the script knows none, is compared as such.
    """
    gold, predicted = vqa_clean(record.answer), vqa_clean(prediction)
    gold_tokens, tokens = vqa_clean(gold).split(), vqa_clean(predicted).split()
    f1, _, recall = multiset_overlap(gold_tokens, tokens)
    closed = closed_by_substring(gold, predicted)
    answered = "yes" in predicted or "no" in predicted
    yes_no = closed_answer(record.answer)
    if yes_no and gold not in ("yes", "no"):
        said = polarity(prediction)
        closed, answered = float(said == yes_no), bool(said)
    values = {"closed_accuracy": closed} if yes_no else {"open_recall": recall}
    if record.answer_type == "CLOSED":
        values["closed_accuracy_by_type"] = closed
        values |= released_accuracy(closed, answered)
    elif record.answer_type == "OPEN":
        values |= {
            "open_recall_by_type": recall,
            "open_f1": f1,
            "open_bleu_1": bleu_1(gold.split(), predicted.split()),
            "open_exact": covered_share(gold_tokens, tokens),
        }
    return values


def prepare(_records: Sequence[Record]) -> QuestionScorer:
    """The rule needs nothing of the other records."""
    return score_question


PROFILE = Profile(
    name="llava-med",
    version="2",
    summary="LLaVA-Med's run_eval.py",
    metrics=(
        Metric(
            "closed_accuracy_by_type",
            "closed ACC (type)",
            "CLOSED questions whose prediction contains yes or no, and the gold.",
        ),
        Metric("open_recall_by_type", "open recall (type)", "Token recall of OPEN questions."),
        Metric("open_f1", "open F1", "Token F1 of OPEN questions."),
        Metric("open_bleu_1", "open BLEU-1", "Sentence BLEU-1 of OPEN questions."),
        Metric(
            "open_exact",
            "open \N{LEFT DOUBLE QUOTATION MARK}exact\N{RIGHT DOUBLE QUOTATION MARK}",
            "The script's exact match of OPEN questions: gold words found / predicted words.",
        ),
        Metric(
            "closed_accuracy_released",
            "closed ACC (released)",
            "closed ACC (type) as the script prints it: wrong answers with yes or no left out.",
        ),
        Metric("closed_accuracy", "closed ACC", "The same rule where the gold is yes or no."),
        Metric("open_recall", "open recall", "Token recall of the other questions."),
    ),
    prepare=prepare,
)
