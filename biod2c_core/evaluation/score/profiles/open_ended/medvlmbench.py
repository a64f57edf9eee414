"""MedVLMBench: LLaVA-Med's word counts, open questions right from a recall of 0.75 on.

Counts: closed questions (by the data's answer type) by the gold as a substring of the answer; the words
of open, closed and all questions by LLaVA-Med's functions; BLEU in 32-bit floats (torchmetrics).
METEOR and BERTScore, which need models, are left out.
"""

from __future__ import annotations

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.bleu import torchmetrics_bleu
from biod2c_core.evaluation.score.metrics import covered_share, multiset_overlap
from biod2c_core.evaluation.score.normalize import vqa_clean
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, rule_for_each

RIGHT_RECALL = 0.75
_WORDS = {
    "exact": ("\u201cexact\u201d", "LLaVA-Med's exact match: gold words found / answer words"),
    "recall": ("token recall", "LLaVA-Med's token recall"),
    "precision": ("token precision", "LLaVA-Med's token precision"),
    "f1": ("token F1", "LLaVA-Med's token F1"),
}


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question; none to one without an answer type."""
    if not record.answer_type:
        return {}
    once, said_once = vqa_clean(record.answer), vqa_clean(prediction)
    gold, said = vqa_clean(once).split(), vqa_clean(said_once).split()
    f1, precision, recall = multiset_overlap(gold, said)
    words = {
        "exact": covered_share(gold, said),
        "recall": recall,
        "precision": precision,
        "f1": f1,
    }
    kind = record.answer_type.lower()
    values = {f"{kind}_{name}": value for name, value in words.items()}
    values |= {f"all_{name}": value for name, value in words.items()}
    if kind == "closed":
        right = record.answer.lower() in prediction.lower()
        return values | {"closed_accuracy_by_type": float(right)}
    bleu = torchmetrics_bleu(once.split(), said_once.split())
    values |= {f"open_bleu_{order}": value for order, value in enumerate(bleu, 1)}
    return values | {"open_accuracy_by_type": float(recall >= RIGHT_RECALL)}


PROFILE = Profile(
    name="medvlmbench",
    version="1",
    summary="MedVLMBench: open right from token recall 0.75 on, closed by substring",
    metrics=(
        Metric("closed_accuracy_by_type", "closed ACC (type)", "CLOSED: the gold is in it."),
        Metric("open_accuracy_by_type", "open ACC (type)", "OPEN: token recall of 0.75 or more."),
        *(
            Metric(f"open_bleu_{n}", f"open BLEU-{n}", f"torchmetrics BLEU-{n}, OPEN questions.")
            for n in (1, 2, 3, 4)
        ),
        *(
            Metric(f"{kind}_{name}", f"{kind} {label}", f"{meaning}, {kind} questions.")
            for kind in ("open", "closed", "all")
            for name, (label, meaning) in _WORDS.items()
        ),
    ),
    prepare=rule_for_each(score_question),
    source="ubc-tea/MedVLMBench b589983, eval/vqa.py",
)
