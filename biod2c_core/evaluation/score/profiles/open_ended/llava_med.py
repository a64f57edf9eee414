"""LLaVA-Med: closed questions by substring, open ones by token recall, told apart by answer type.

The rule since 11 December 2023, in which a wrong closed answer is 0. The one before left wrong answers
with yes or no out of the mean; it is the profile ``llava-med-2023``, and a column here.

Two flaws of the convention are kept, because the published numbers have them: "no" is found inside
"abnormal", and a closed question whose gold is neither yes nor no is wrong unless the prediction
happens to contain one of them. The script's list of candidates was never published; here it is the
sorted distinct golds of the open questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from biod2c_core.data.formats.fields.yes_no import polarity
from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.bleu import nltk_bleu
from biod2c_core.evaluation.score.metrics import covered_share, multiset_overlap
from biod2c_core.evaluation.score.normalize import closed_answer, vqa_clean
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, QuestionScorer

# BLEU-1, then the second and the third order alone, as the script weights them, then BLEU-4
_WEIGHTS = ((1.0,), (0.0, 1.0), (0.0, 0.0, 1.0), (0.25, 0.25, 0.25, 0.25))
_BLEU_KEYS = ("open_bleu_1", "open_order_2", "open_order_3", "open_bleu_4")


def closed_by_substring(gold: str, predicted: str) -> float:
    """1 if the prediction contains "yes" or "no" and the gold, anywhere, even inside a word."""
    answers = "yes" in predicted or "no" in predicted
    return float(answers and gold in predicted)


def old_accuracy(correct: float, says_yes_or_no: bool) -> dict[str, float]:
    """The script's column until December 2023: a wrong answer with yes or no in it is left out."""
    left_out = not correct and says_yes_or_no
    return {} if left_out else {"closed_accuracy_2023": correct}


def prepare(records: Sequence[Record]) -> QuestionScorer:
    """Collect the candidates that stand for a prediction in the script's open accuracy."""
    golds = sorted({record.answer for record in records if record.answer_type == "OPEN"})
    stands_for = _candidate_finder([vqa_clean(gold) for gold in golds])

    def score_question(record: Record, prediction: str) -> dict[str, float]:
        """All columns that apply to one question.

        The script's functions that compare words clean the already cleaned texts again, which is
        not the same as once. A yes or no of another script, of which it knows none, is compared
        as such.
        """
        gold, predicted = vqa_clean(record.answer), vqa_clean(prediction)
        gold_tokens, tokens = vqa_clean(gold).split(), vqa_clean(predicted).split()
        f1, precision, recall = multiset_overlap(gold_tokens, tokens)
        yes_no = closed_answer(record.answer)
        values = {} if yes_no else {"open_recall": recall}
        if yes_no or record.answer_type == "CLOSED":
            values |= _closed_columns(record, gold, predicted, prediction, yes_no)
        if record.answer_type == "OPEN":
            bleu = nltk_bleu(gold.split(), predicted.split(), _WEIGHTS)
            values |= {
                "open_accuracy_by_type": float(stands_for(tokens) == gold),
                "open_recall_by_type": recall,
                "open_precision": precision,
                "open_f1": f1,
                **dict(zip(_BLEU_KEYS, bleu, strict=True)),
                "open_exact": covered_share(gold_tokens, tokens),
            }
        return values

    return score_question


def _closed_columns(
    record: Record, gold: str, predicted: str, prediction: str, yes_no: str
) -> dict[str, float]:
    closed = closed_by_substring(gold, predicted)
    answered = "yes" in predicted or "no" in predicted
    if yes_no and gold not in ("yes", "no"):
        said = polarity(prediction)
        closed, answered = float(said == yes_no), bool(said)
    values = {"closed_accuracy": closed} if yes_no else {}
    if record.answer_type == "CLOSED":
        values |= {"closed_accuracy_by_type": closed, **old_accuracy(closed, answered)}
    return values


def _candidate_finder(candidates: Sequence[str]) -> Callable[[Sequence[str]], str | None]:
    """The first candidate of whose distinct words the largest share is in a prediction."""
    words = [set(vqa_clean(candidate).split()) for candidate in candidates]
    places: dict[str, list[int]] = {}
    for place, known in enumerate(words):
        for word in known:
            places.setdefault(word, []).append(place)

    def find(tokens: Sequence[str]) -> str | None:
        found: dict[int, int] = {}
        for word in set(tokens):
            for place in places.get(word, ()):
                found[place] = found.get(place, 0) + 1
        if not found:
            return candidates[0] if candidates else None
        best = min(found, key=lambda place: (-found[place] / len(words[place]), place))
        return candidates[best]

    return find


PROFILE = Profile(
    name="llava-med",
    version="3",
    summary="LLaVA-Med's run_eval.py since December 2023",
    metrics=(
        Metric(
            "closed_accuracy_by_type",
            "closed ACC (type)",
            "CLOSED questions whose prediction contains yes or no, and the gold.",
        ),
        Metric("open_recall_by_type", "open token recall (type)", "OPEN questions."),
        Metric("open_f1", "open token F1", "OPEN questions."),
        Metric("open_precision", "open token precision", "OPEN questions."),
        Metric("open_bleu_1", "open BLEU-1", "nltk sentence BLEU-1 of OPEN questions."),
        Metric("open_order_2", "open BLEU order 2 alone", "The script's bleu_score_2, OPEN."),
        Metric("open_order_3", "open BLEU order 3 alone", "The script's bleu_score_3, OPEN."),
        Metric("open_bleu_4", "open BLEU-4", "nltk sentence BLEU-4, the script's bleu_score."),
        Metric(
            "open_exact",
            "open \N{LEFT DOUBLE QUOTATION MARK}exact\N{RIGHT DOUBLE QUOTATION MARK}",
            "The script's exact match of OPEN questions: gold words found / predicted words.",
        ),
        Metric(
            "open_accuracy_by_type",
            "open ACC (type)",
            "OPEN: the candidate with most of its words in the prediction is the gold.",
        ),
        Metric(
            "closed_accuracy_2023",
            "closed ACC (type, old)",
            "As the script printed it until December 2023: wrong answers with yes or no left out.",
        ),
        Metric("closed_accuracy", "closed ACC", "The new rule where the gold is yes or no."),
        Metric("open_recall", "open token recall", "Token recall of the other questions."),
    ),
    prepare=prepare,
    source="microsoft/LLaVA-Med b9a98a7, llava/eval/run_eval.py",
)
