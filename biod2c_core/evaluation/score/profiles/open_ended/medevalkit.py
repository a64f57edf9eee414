"""MedEvalKit (Lingshu), its rule for VQA-RAD and PathVQA, without a judge.

Counts: closed questions (gold yes or no) by substring, even inside a word; open ones by equal text,
BLEU, the package rouge and distinct words. The tool prints three columns under each other's names and
divides ``open.acc`` twice; what it prints stands among the totals, the honest columns above them. It
stops at an empty answer; here such an answer is 0 in every column, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.bleu import CUMULATIVE, nltk_bleu
from biod2c_core.evaluation.score.extract import after_markers, final_answer
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, rule_for_each
from biod2c_core.evaluation.score.rouge import EmptyTextError, rouge_scores

COMMIT = "alibaba-damo-academy/MedEvalKit 9b12e3b"
BLEU_KEYS = ("open_bleu_1", "open_bleu_2", "open_bleu_3", "open_bleu_4")
ROUGE_KEYS = ("open_rouge_1", "open_rouge_2", "open_rouge_l")
WORD_KEYS = ("open_f1", "open_precision", "open_recall")
OPEN_KEYS = (*BLEU_KEYS, *ROUGE_KEYS, *WORD_KEYS, "open_exact")
_CLOSED = str.maketrans("", "", "\n.")


def prepared(text: str) -> str:
    """A text as the rule for VQA-RAD and PathVQA takes it."""
    return text.lower().strip()


def is_yes_no(gold: str) -> bool:
    """Whether the tool calls a question closed."""
    return prepared(gold) in ("yes", "no")


def without_stops(answer: str) -> str:
    """An answer as the tool reads it where the question is closed: no full stops, no line breaks."""
    return answer.translate(_CLOSED)


def contains_one(gold: str, answer: str) -> float:
    """1 where exactly one of the substrings "yes" and "no" is in the answer, and the gold is."""
    said = without_stops(answer)
    return float(("yes" in said) != ("no" in said) and gold in said)


@lru_cache(maxsize=1 << 8)  # the rules for SLAKE and for the others mostly ask for the same
def open_columns(gold: str, answer: str) -> dict[str, float]:
    """All columns of an open question.

    Args:
        gold: Lower case.
        answer: Extracted, lower case.
    """
    try:
        rouge = rouge_scores(answer, gold)
    except EmptyTextError:
        return dict.fromkeys(OPEN_KEYS, 0.0)
    bleu = nltk_bleu(_bleu_tokens(gold), _bleu_tokens(answer), CUMULATIVE)
    words = _words(gold, answer)
    return {
        **dict(zip(BLEU_KEYS, bleu, strict=True)),
        **dict(zip(ROUGE_KEYS, rouge, strict=True)),
        **dict(zip(WORD_KEYS, words, strict=True)),
        "open_exact": float(answer == gold),
    }


def _bleu_tokens(text: str) -> list[str]:
    return text.replace(".", " .").split(" ")


def _words(gold: str, answer: str) -> tuple[float, float, float]:
    """F1, precision and recall of distinct words, punctuation included."""
    wanted, given = set(gold.split()), set(answer.split())
    common = len(wanted & given)
    if common == 0:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question."""
    gold = prepared(record.answer)
    answer = after_markers(prepared(final_answer(prediction)))
    if gold in ("yes", "no"):
        correct = contains_one(gold, answer)
        return {"closed_accuracy": correct, "accuracy": correct}
    columns = open_columns(gold, answer)
    return columns | {"accuracy": columns["open_exact"]}


def totals(
    records: Sequence[Record], predictions: Sequence[str], means: Mapping[str, float]
) -> dict[str, float]:
    """What the tool prints under other names, and the answers that stop it."""
    opened = [
        after_markers(prepared(final_answer(text)))
        for record, text in zip(records, predictions, strict=True)
        if not is_yes_no(record.answer)
    ]
    return printed_totals(opened, means)


def printed_totals(opened: Sequence[str], means: Mapping[str, float]) -> dict[str, float]:
    """The printed numbers from the extracted answers to open questions and the honest means."""
    found = {"empty_answers": float(sum(not answer.strip(".") for answer in opened))}
    if not opened:
        return found
    printed = {
        "printed_precision": means["open_f1"],
        "printed_recall": means["open_precision"],
        "printed_f1": means["open_recall"],
        "printed_open_acc": means["open_exact"] / len(opened),
    }
    return found | printed


OPEN_METRICS = (
    Metric("open_exact", "open EM", "Open questions whose extracted answer equals the gold."),
    *(
        Metric(key, f"open BLEU-{order}", f"nltk sentence BLEU-{order}, open questions.")
        for order, key in enumerate(BLEU_KEYS, 1)
    ),
    Metric("open_rouge_1", "open ROUGE-1 (rouge)", "F of the package rouge, open questions."),
    Metric("open_rouge_2", "open ROUGE-2 (rouge)", "F of the package rouge, open questions."),
    Metric("open_rouge_l", "open ROUGE-L (rouge)", "F of the package rouge, open questions."),
    Metric("open_precision", "open token precision", "Distinct words; printed as recall."),
    Metric("open_recall", "open token recall", "Distinct words; printed as f1."),
    Metric("open_f1", "open token F1", "Distinct words; printed as precision."),
)
TOTAL_METRICS = (
    Metric("printed_precision", "printed as precision", "open token F1 under the tool's name."),
    Metric("printed_recall", "printed as recall", "open token precision under the tool's name."),
    Metric("printed_f1", "printed as f1", "open token recall under the tool's name."),
    Metric("printed_open_acc", "printed as open.acc", "open EM, divided once more by its count."),
    Metric("empty_answers", "empty answers", "How many answers stop the tool; counted 0 here."),
)
PROFILE = Profile(
    name="medevalkit",
    version="1",
    summary="MedEvalKit's rule for VQA-RAD and PathVQA, without a judge",
    metrics=(
        Metric("closed_accuracy", "closed ACC", "Gold yes or no: the only one of both in it."),
        *OPEN_METRICS,
        Metric("accuracy", "ACC", "Right closed answers and open EM, over all questions."),
    ),
    prepare=rule_for_each(score_question),
    source=f"{COMMIT}, utils/utils.py and utils/VQA_RAD/VQA_RAD.py",
    total_metrics=TOTAL_METRICS,
    totals=totals,
)
