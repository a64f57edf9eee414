"""ProbMed: a true and an adversarial question together, by kind of question and image.

Counts one answer by a capital "Yes" or "No" anywhere in it, which is inside "Not", "None" and "Nodule"
too. Records need the tag ``qa_type`` (``modality_gt``, ``modality_hallu`` ...) and, for the tables by
kind of image, ``image_type``; couples of other questions share a value of the tag ``pair``, the true
one first. Fractions here are percent in the tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, rule_for_each

KINDS = ("abnormality", "modality", "body_part", "entity", "grounding")
_PAIRS, _GROUPS = ("modality", "body_part"), ("entity", "grounding")
_PAIR = 2
_QA_TYPE = re.compile(rf"({'|'.join(KINDS)})(?:_(gt|hallu))?(?:_(\d+))?")


@dataclass(frozen=True)
class _Asked:
    """One answer to one of an image's questions: kind, gt or hallu, number of the couple."""

    kind: str
    role: str
    number: str
    right: float


def one_answer(gold: str, prediction: str) -> float:
    """1 where an answer says what the gold (yes or no) does, by the tool's substring."""
    said, word = prediction.strip(), gold.strip().lower()
    whole = said.lower() in (word, f"{word}.")
    return float(whole or word.capitalize() in said)


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """The one column, of questions whose gold is yes or no."""
    if record.answer.strip().lower() not in ("yes", "no"):
        return {}
    return {"closed_accuracy": one_answer(record.answer, prediction)}


def totals(
    records: Sequence[Record], predictions: Sequence[str], _means: Mapping[str, float]
) -> dict[str, float]:
    """Couples of questions, and the tool's means over kinds of question and of image."""
    pairs: dict[str, list[float]] = {}
    images: dict[tuple[str, str], list[_Asked]] = {}
    for record, text in zip(records, predictions, strict=True):
        if record.answer.strip().lower() not in ("yes", "no"):
            continue
        right = one_answer(record.answer, text)
        if found := _QA_TYPE.fullmatch(record.tags.get("qa_type", "")):
            place = (record.tags.get("image_type", ""), record.image)
            asked = _Asked(found[1], found[2] or "", found[3] or "", right)
            images.setdefault(place, []).append(asked)
        elif pair := record.tags.get("pair"):
            pairs.setdefault(pair, []).append(right)
    couples = [found for found in pairs.values() if len(found) == _PAIR]
    scores = {}
    if couples:
        scores["pair_first"] = sum(first for first, _ in couples) / len(couples)
        scores["pair_both"] = sum(first * second for first, second in couples) / len(couples)
    return scores | (_means_over_kinds(images) if images else {})


def _means_over_kinds(images: Mapping[tuple[str, str], Sequence[_Asked]]) -> dict[str, float]:
    by_type: dict[str, list[Sequence[_Asked]]] = {}
    for (image_type, _), asked in images.items():
        by_type.setdefault(image_type, []).append(asked)
    strict, loose, weights = {}, {}, {}
    for kind in KINDS:
        cells = [_cell(kind, members) for members in by_type.values()]
        if weight := sum(cell[2] for cell in cells):
            weights[kind] = weight
            strict[kind] = sum(cell[0] * cell[2] for cell in cells) / weight
            loose[kind] = sum(cell[1] * cell[2] for cell in cells) / weight
    true_first = {kind: value for kind, value in loose.items() if kind != "abnormality"}
    found = {f"{kind}_accuracy": value for kind, value in strict.items()}
    found |= {f"{kind}_first": value for kind, value in true_first.items()}
    if strict:
        found["probmed_accuracy"] = _weighted(strict, weights)
    if true_first:
        found["probmed_first"] = _weighted(true_first, weights)
    return found


def _weighted(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(values[k] * weights[k] for k in values) / sum(weights[k] for k in values)


def _cell(kind: str, images: Sequence[Sequence[_Asked]]) -> tuple[float, float, float]:
    """Share right with and without adversary, and weight, of one kind of question and image.

    Images without the question are left out of the share, but not of the weight of entity and
    grounding: so does the tool.
    """
    of_kind = [[one for one in asked if one.kind == kind] for asked in images]
    if kind == "abnormality":
        groups = [[[one.right]] for asked in of_kind for one in asked]
    elif kind in _PAIRS:
        groups = [[[one.right for one in asked]] for asked in of_kind if len(asked) == _PAIR]
    else:
        groups = [couples for asked in of_kind if (couples := _couples(asked))]
    if not groups:
        return 0.0, 0.0, 0
    weight = len(images) if kind in _GROUPS else len(groups)
    both = sum(all(all(couple) for couple in couples) for couples in groups) / len(groups)
    first = sum(all(couple[0] for couple in couples) for couples in groups) / len(groups)
    return both, first, weight


def _couples(asked: Sequence[_Asked]) -> list[list[float]]:
    """Each true question with the adversarial one behind it; one that has no number stands alone."""
    found: list[list[float]] = []
    true: dict[str, float] = {}
    for one in asked:
        if one.role == "gt":
            true[one.number] = one.right
        elif not one.number:
            found.append([one.right])
        elif one.number in true:
            found.append([true.pop(one.number), one.right])
    return found


PROFILE = Profile(
    name="probmed",
    version="1",
    summary="ProbMed's pairs of a true and an adversarial question",
    metrics=(
        Metric("closed_accuracy", "closed ACC", "Yes/no questions by ProbMed's rule, one by one."),
    ),
    prepare=rule_for_each(score_question),
    source="eric-ai-lab/ProbMed 0268b5d, eval/calculate_score.py",
    total_metrics=(
        Metric("pair_both", "pairs: both right", "Ablation with adversary."),
        Metric("pair_first", "pairs: first right", "Ablation without adversary."),
        Metric("probmed_accuracy", "ProbMed ACC", "Mean over the kinds, with adversaries."),
        Metric("probmed_first", "ProbMed ACC w/o adversary", "Without abnormality."),
        *(
            metric
            for kind, name in ((kind, kind.replace("_", " ")) for kind in KINDS)
            for metric in (
                Metric(f"{kind}_accuracy", f"{name} ACC", "Weighted over kinds of image."),
                Metric(f"{kind}_first", f"{name} ACC w/o adversary", "True questions alone."),
            )
            if metric.key != "abnormality_first"
        ),
    ),
    totals=totals,
)
