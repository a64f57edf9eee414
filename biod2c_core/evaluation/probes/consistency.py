"""Does it keep to what it says? Other words, negations, and pairs of a true and a false attribute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.asking import Asking
from biod2c_core.evaluation.predict.choices import choices_of
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.probes.again import AskAgain, beside
from biod2c_core.evaluation.probes.attributes import AttributePair, attribute_pairs
from biod2c_core.evaluation.probes.wording import RULES_VERSION, reword
from biod2c_core.evaluation.score.normalize import closed_answer
from biod2c_core.evaluation.score.profiles.open_ended.lmms_slake import normalize
from biod2c_core.evaluation.score.score import Evaluation, ScoredQuestion
from biod2c_core.evaluation.statistics.intervals import Estimate, intervals

PARAPHRASE, NEGATION = "paraphrase", "negation"
_FLIPPED = {"yes": "no", "no": "yes"}
_BEGINS = re.compile(r"(yes|no)\b")


@dataclass(frozen=True)
class Reworded:
    """A question asked again in other words.

    Attributes:
        kind: ``paraphrase`` or ``negation``.
        original: As the data has it.
        record: As it was asked again, with the answer that is right then.
    """

    kind: str
    original: Record
    record: Record


@dataclass(frozen=True)
class WordingResult:
    """What other words of one kind came to.

    Attributes:
        kind: ``paraphrase, closed``, ``paraphrase, open`` or ``negation``.
        questions: How many were asked again.
        of: How many there are of this kind; the others fit no rule.
        consistent: Share whose second answer agrees with the first: the same, or for a negation the
            other one of yes and no.
        right_first: Share of first answers that are right.
        right_second: Share of second ones.
        both_right: Share of questions that were answered rightly both times.
    """

    kind: str
    questions: int
    of: int
    consistent: Estimate
    right_first: Estimate
    right_second: Estimate
    both_right: Estimate


@dataclass(frozen=True)
class AttributeResult:
    """What pairs of a true and a false attribute came to.

    Attributes:
        attribute: ``modality``, ``organ``, ``finding``, or ``all``.
        pairs: How many.
        true_right: Share of true attributes that were affirmed.
        false_right: Share of false ones that were denied.
        both_right: Share of pairs with both, ProbMed's accuracy.
    """

    attribute: str
    pairs: int
    true_right: Estimate
    false_right: Estimate
    both_right: Estimate


@dataclass(frozen=True)
class Consistency:
    """How well a model keeps to what it says.

    Attributes:
        wordings: By kind; none without questions.
        attributes: By attribute, then all; none without pairs.
        rows: What was asked, for ``consistency.jsonl``.
    """

    wordings: tuple[WordingResult, ...]
    attributes: tuple[AttributeResult, ...]
    rows: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values, without the rows."""
        return {
            "rules": RULES_VERSION,
            "wordings": [asdict(each) for each in self.wordings],
            "attributes": [asdict(each) for each in self.attributes],
        }


def reworded_questions(records: Sequence[Record]) -> list[Reworded]:
    """Every question that a rule fits, in other words; those of yes and no negated, too."""
    found = []
    for record in records:
        gold = closed_answer(record.answer)
        words = reword(record.question, bool(gold))
        if words is None:
            continue
        texts = [(PARAPHRASE, words.paraphrase, record.answer)]
        if words.negation and not choices_of(record):
            texts.append((NEGATION, words.negation, _FLIPPED[gold]))
        found += [
            Reworded(
                kind,
                record,
                record.changed(id=f"{kind}:{record.id}", question=text, answer=answer),
            )
            for kind, text, answer in texts
        ]
    return found


def ask_consistency(
    evaluation: Evaluation, path: Path, ask: AskAgain, usual: Asking
) -> Consistency:
    """Ask again in other words and for attributes, and compare.

    Killed at any moment and started again, no question is asked twice.

    Args:
        evaluation: The first answers.
        path: Their predictions file; the second go beside it.
        ask: The same model.
        usual: How it was asked.

    Raises:
        InputError: No question fits a rule, and no record names an attribute.
    """
    reworded = reworded_questions(evaluation.records)
    pairs = attribute_pairs(evaluation.records)
    if not reworded and not pairs:
        raise InputError(
            "no question fits a rule for other words, and no record has a tag modality, organ or "
            "finding with another value to compare",
            "Leave out --consistency.",
        )
    asked = [each.record for each in reworded]
    asked += [record for pair in pairs for record in (pair.true, pair.false)]
    second = ask(asked, beside(path, "consistency"), asking=usual)
    return compare_wordings(evaluation, reworded, pairs, second)


def compare_wordings(
    first: Evaluation,
    reworded: Sequence[Reworded],
    pairs: Sequence[AttributePair],
    second: Mapping[str, Prediction],
) -> Consistency:
    """Compare the second answers with the first ones and with what is right.

    Two answers agree when they are equal after lmms-eval's normalization for SLAKE, of one that begins
    with yes or no that word alone; so is an answer right.

    Args:
        first: The answers to the questions as the data has them.
        reworded: The same in other words.
        pairs: True and false attributes.
        second: Id to answer of both.
    """
    said = {question.record.id: question for question in first.questions}
    kinds: dict[str, list[ScoredQuestion]] = {}
    rows = []
    for each in reworded:
        before, after = said[each.original.id], second[each.record.id]
        values = _wording_values(each, before.prediction.answer, after.answer)
        closed = bool(closed_answer(each.original.answer))
        kind = f"{each.kind}, {'closed' if closed else 'open'}"
        kinds.setdefault(NEGATION if each.kind == NEGATION else kind, []).append(
            ScoredQuestion(each.original, after, values)
        )
        rows.append(_row(each.kind, each.record, after) | {"before": before.prediction.answer})
    for pair in pairs:
        for record in (pair.true, pair.false):
            rows.append(_row(pair.attribute, record, second[record.id]))
    return Consistency(
        tuple(_wording(kind, kinds[kind], first.records) for kind in sorted(kinds)),
        _attributes(pairs, second),
        tuple(rows),
    )


def meaning(answer: str) -> str:
    """What is compared of an answer."""
    text = normalize(answer)
    begins = _BEGINS.match(text)
    return begins[1] if begins else text


def _wording_values(each: Reworded, before: str, after: str) -> dict[str, float]:
    first, second = meaning(before), meaning(after)
    expected = _FLIPPED.get(first) if each.kind == NEGATION else first
    right = first == meaning(each.original.answer), second == meaning(each.record.answer)
    return {
        "consistent": float(second == expected),
        "right_first": float(right[0]),
        "right_second": float(right[1]),
        "both_right": float(all(right)),
    }


def _wording(
    kind: str, members: Sequence[ScoredQuestion], records: Sequence[Record]
) -> WordingResult:
    closed = not kind.endswith("open")
    of = sum(bool(closed_answer(record.answer)) == closed for record in records)
    keys = ["consistent", "right_first", "right_second", "both_right"]
    return WordingResult(kind, len(members), of, **intervals(members, keys))


def _attributes(
    pairs: Sequence[AttributePair], second: Mapping[str, Prediction]
) -> tuple[AttributeResult, ...]:
    by_attribute: dict[str, list[ScoredQuestion]] = {}
    for pair in pairs:
        yes, no = (second[record.id] for record in (pair.true, pair.false))
        right = float(meaning(yes.answer) == "yes"), float(meaning(no.answer) == "no")
        values = {"true_right": right[0], "false_right": right[1], "both_right": min(right)}
        question = ScoredQuestion(pair.true, yes, values)
        by_attribute.setdefault(pair.attribute, []).append(question)
    if len(by_attribute) > 1:
        by_attribute["all"] = [q for members in by_attribute.values() for q in members]
    keys = ["true_right", "false_right", "both_right"]
    return tuple(
        AttributeResult(name, len(members), **intervals(members, keys))
        for name, members in by_attribute.items()
    )


def _row(kind: str, record: Record, answer: Prediction) -> dict[str, Any]:
    return {
        "id": record.id,
        "kind": kind,
        "image": record.image,
        "question": record.question,
        "gold": record.answer,
        "answer": answer.answer,
    }
