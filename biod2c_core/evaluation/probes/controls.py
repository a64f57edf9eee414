"""Does it look? The same questions about other pictures, and what follows from the answers.

Reliance and sensitivity are measures of arXiv 2603.03437, which calls them VRS and IS; where it says
nothing, the choices here are those of ``docs/commands/evaluate.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.asking import BLANK, NOISE, NONE, OWN, Asking, NeedsPictureError
from biod2c_core.evaluation.predict.predictions_file import (
    Prediction,
    check_complete,
    read_predictions,
)
from biod2c_core.evaluation.probes.again import AskAgain, beside
from biod2c_core.evaluation.score.normalize import closed_answer
from biod2c_core.evaluation.score.profiles.open_ended.lmms_slake import normalize
from biod2c_core.evaluation.score.score import Evaluation, ScoredQuestion, score
from biod2c_core.evaluation.statistics.intervals import (
    LEVEL,
    Estimate,
    PairedTest,
    holm,
    image_totals,
    intervals,
    paired_test,
    resampled_means,
    tag_groups,
)

OTHER = "other"
# What is asked about beside the own image, and the name of its predictions file
CONTROLS = {OTHER: "other-image", BLANK: "blank-image", NOISE: "noise-image", NONE: "no-image"}
SHUFFLE_SEED = 0
ALL_QUESTIONS = "all questions"


@dataclass(frozen=True)
class ControlGroup:
    """Some of the questions, with every picture they were asked about.

    Attributes:
        tag: Tag of the records, ``answer type``, or empty for all questions.
        value: Its value.
        questions: How many.
        accuracy: ``own`` and each control to the mean of the profile's correctness.
        difference: Control to the paired test of own against it; that of ``other`` is the reliance.
        changed: Control to the share of questions whose answer is another than about the own image,
            right or wrong; that of ``other`` is the sensitivity.
        kept: Control to accuracy with it / accuracy with the own image.
    """

    tag: str
    value: str
    questions: int
    accuracy: dict[str, Estimate]
    difference: dict[str, PairedTest]
    changed: dict[str, Estimate]
    kept: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values, the published measures by name."""
        reliance, sensitivity = self.difference.get(OTHER), self.changed.get(OTHER)
        return {
            **asdict(self),
            "reliance": asdict(reliance) if reliance else None,
            "sensitivity": asdict(sensitivity) if sensitivity else None,
        }


@dataclass(frozen=True)
class Controls:
    """What a model says about other pictures.

    Attributes:
        groups: All questions, then by answer type and by tag.
        columns: ``own`` and each control to the profile's columns.
        missing: Control to why it was not asked.
    """

    groups: tuple[ControlGroup, ...]
    columns: dict[str, dict[str, Estimate]]
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {
            "shuffle_seed": SHUFFLE_SEED,
            "groups": [group.to_dict() for group in self.groups],
            "scores": {
                name: {key: asdict(estimate) for key, estimate in columns.items()}
                for name, columns in self.columns.items()
            },
            "missing": self.missing,
        }


def ask_controls(
    evaluation: Evaluation, path: Path, ask: AskAgain | None, usual: Asking
) -> Controls:
    """Ask every question about other pictures, and compare.

    Killed at any moment and started again, no question is asked twice.

    Args:
        evaluation: The answers about the own images.
        path: Their predictions file; those of the controls go beside it.
        ask: The same model; None for another system, whose answers must stand beside its first ones.
        usual: How it was asked.

    Raises:
        InputError: The answers are of another system, and no file with those of a control is there; or
            there are too few images to give each question another one.
    """
    found: dict[str, Evaluation] = {}
    missing: dict[str, str] = {}
    for name, file in CONTROLS.items():
        second = beside(path, file)
        if ask is None and not second.exists():
            missing[name] = f"there is no {second.name}"
            continue
        try:
            answers = _answers(evaluation, name, second, ask, usual)
        except NeedsPictureError as error:
            missing[name] = error.problem
            continue
        found[name] = score(evaluation.records, answers, evaluation.profile, second)
    if not found:
        raise InputError(
            f"{path} holds answers of another system, who cannot be asked about other pictures",
            f"Put its answers beside it, as {beside(path, CONTROLS[OTHER]).name} "
            f"({', '.join(list(CONTROLS.values())[1:])}).",
        )
    return compare_controls(evaluation, found, missing)


def _answers(
    evaluation: Evaluation, name: str, second: Path, ask: AskAgain | None, usual: Asking
) -> Mapping[str, Prediction]:
    if ask is None:
        answers = read_predictions(second)
        check_complete(evaluation.records, answers, second)
        return answers
    if name == OTHER:
        return ask(None, second, shuffle_seed=SHUFFLE_SEED, asking=usual)
    return ask(None, second, asking=replace(usual, picture=name))


def compare_controls(
    own: Evaluation, controls: Mapping[str, Evaluation], missing: Mapping[str, str] | None = None
) -> Controls:
    """Measures over all questions, and by answer type and tag.

    Args:
        own: The answers about the own images.
        controls: Of ``other``, ``blank``, ``noise`` and ``none``, those that there are: the answers of
            the same model to the same questions, by the same profile.
        missing: Control to why there is none.
    """
    names = list(controls)
    joined = _joined(own, controls)
    groups = [_group("", ALL_QUESTIONS, joined, names)]
    for tag, values in _groups(joined).items():
        groups += [_group(tag, value, members, names) for value, members in values.items()]
    keys = [metric.key for metric in own.profile.metrics]
    columns = {
        name: intervals(evaluation.questions, keys)
        for name, evaluation in {OWN: own, **controls}.items()
    }
    return Controls(tuple(groups), columns, dict(missing or {}))


def _joined(own: Evaluation, controls: Mapping[str, Evaluation]) -> list[ScoredQuestion]:
    """Each question that has a correctness, with that of every control and whether the answer changed."""
    joined = []
    for place, question in enumerate(own.questions):
        others = {name: each.questions[place] for name, each in controls.items()}
        right = {OWN: question.correctness} | {n: q.correctness for n, q in others.items()}
        if None in right.values():
            continue
        said = normalize(question.prediction.answer)
        values = {name: float(value or 0.0) for name, value in right.items()}
        for name, other in others.items():
            values[f"changed {name}"] = float(normalize(other.prediction.answer) != said)
        joined.append(ScoredQuestion(question.record, question.prediction, values))
    if not joined:
        raise InputError(
            f"the profile {own.profile.name!r} says of no question here whether it is right",
            "Choose another one for controls, such as multimedeval.",
        )
    return joined


def _groups(joined: Sequence[ScoredQuestion]) -> dict[str, dict[str, list[ScoredQuestion]]]:
    """By answer type, as the data says or else by whether the gold is yes or no, and by every tag."""
    types: dict[str, list[ScoredQuestion]] = {"closed": [], "open": []}
    for question in joined:
        record = question.record
        kind = record.answer_type or ("CLOSED" if closed_answer(record.answer) else "OPEN")
        types.setdefault(kind.lower(), []).append(question)
    filled = {kind: members for kind, members in types.items() if members}
    return {"answer type": filled} | tag_groups(joined) if len(filled) > 1 else tag_groups(joined)


def _group(
    tag: str, value: str, members: Sequence[ScoredQuestion], controls: Sequence[str]
) -> ControlGroup:
    keys = [OWN, *controls, *(f"changed {name}" for name in controls)]
    estimates = intervals(members, keys)
    tests = {
        name: paired_test([(q, q.values[OWN], q.values[name]) for q in members])
        for name in controls
    }
    adjusted = holm([test.p for test in tests.values()])
    return ControlGroup(
        tag=tag,
        value=value,
        questions=len(members),
        accuracy={name: estimates[name] for name in (OWN, *controls)},
        difference={
            name: replace(test, p_adjusted=p)
            for (name, test), p in zip(tests.items(), adjusted, strict=True)
        },
        changed={name: estimates[f"changed {name}"] for name in controls},
        kept={name: _ratio(members, name) for name in controls},
    )


def _ratio(members: Sequence[ScoredQuestion], control: str) -> Estimate:
    """Accuracy with a control / accuracy with the own image, both over the same images drawn."""
    ordered = sorted(members, key=lambda question: question.record.id)
    plain = [replace(q, values={OWN: q.values[OWN], control: q.values[control]}) for q in ordered]
    sums, counts = image_totals(plain, [OWN, control])
    own, other = sums.sum(0)
    if own == 0:
        return Estimate(None, len(members))
    if len(sums) < 2:
        return Estimate(float(other / own), len(members))
    means = resampled_means(sums, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = means[:, 1] / means[:, 0]
    ratios = ratios[np.isfinite(ratios)]  # a draw without a right answer has none
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(other / own), len(members), float(low), float(high))
