"""A result and everything that belongs with it: intervals, breakdowns, baselines, overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biod2c_core.data.records import Record
from biod2c_core.errors import PartialResultError, counted
from biod2c_core.evaluation.judge.judge_run import Judged
from biod2c_core.evaluation.probes.consistency import Consistency
from biod2c_core.evaluation.probes.controls import Controls
from biod2c_core.evaluation.probes.masked_text import MaskedText
from biod2c_core.evaluation.probes.repeats import Repeats
from biod2c_core.evaluation.score.score import Evaluation, score
from biod2c_core.evaluation.statistics.abstention import Confidence, assess_confidence
from biod2c_core.evaluation.statistics.baselines import majority, question_only
from biod2c_core.evaluation.statistics.contamination import Contamination, check_contamination
from biod2c_core.evaluation.statistics.intervals import (
    LEVEL,
    METHOD,
    RESAMPLES,
    SEED,
    Estimate,
    breakdown,
    intervals,
)
from biod2c_core.evaluation.statistics.positions import PositionBias, position_bias

BASELINES = {"majority": majority, "question_only": question_only}
Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class TrainingData:
    """The records a model may have learned from, and where their images are."""

    records: Sequence[Record]
    image_root: Path


@dataclass(frozen=True)
class Analysis:
    """One evaluation with its context.

    Attributes:
        evaluation: The scored questions.
        predictions: Manifest of the predictions file; None for another system's file.
        estimates: Column to mean and interval.
        breakdown: Tag to value to column to estimate.
        baselines: Name to column to estimate; empty without training records.
        contamination: Overlap with the training records; None without them.
        clean: The estimates on questions about images that training does not have; empty where
            there are none, or without training records.
        judged: What a language model thinks of the answers; None where it was not asked.
        confidence: What the answers' confidences are worth; None where there are none.
        masked: The answers with the text in the pixels masked; None where that was not asked for.
        positions: Whether answers hang on the letters; None where nothing is multiple choice.
        controls: The answers about other pictures; None where these were not asked for.
        consistency: The answers to other wordings; None where these were not asked for.
        repeats: The answers of every repetition; None where everything was asked once.
        quick_look_of: How many questions there are in all, where only the first were asked.
    """

    evaluation: Evaluation
    predictions: Mapping[str, Any] | None
    estimates: Estimates
    breakdown: dict[str, dict[str, Estimates]]
    baselines: dict[str, Estimates]
    contamination: Contamination | None
    clean: Estimates
    judged: Judged | None = None
    confidence: Confidence | None = None
    masked: MaskedText | None = None
    positions: PositionBias | None = None
    controls: Controls | None = None
    consistency: Consistency | None = None
    repeats: Repeats | None = None
    quick_look_of: int | None = None

    def raise_if_incomplete(self) -> None:
        """Raise what the exit code must tell, once everything is written.

        Raises:
            BioD2CError: A judge stopped, or left answers without a verdict.
        """
        if self.judged is not None:
            self.judged.raise_if_incomplete()
        if failed := (self.evaluation.judged_by or {}).get("failed"):
            raise PartialResultError(
                f"the judge sent no reply about {counted(failed, 'answer')}, counted as wrong",
                "Run the same command again to ask again about failed requests.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the questions, as JSON-ready values."""
        return {
            **self.evaluation.header(),
            "predictions": dict(self.predictions) if self.predictions else None,
            "intervals": {
                "level": LEVEL,
                "method": METHOD,
                "resamples": RESAMPLES,
                "seed": SEED,
            },
            "scores": _to_dicts(self.estimates),
            "totals": self.evaluation.totals(),
            "judge": self.judged.to_dict() if self.judged else None,
            "masked_text": self.masked.to_dict() if self.masked else None,
            "controls": self.controls.to_dict() if self.controls else None,
            "consistency": self.consistency.to_dict() if self.consistency else None,
            "repeats": self.repeats.to_dict() if self.repeats else None,
            "quick_look_of": self.quick_look_of,
            "baselines": {name: _to_dicts(columns) for name, columns in self.baselines.items()},
            "contamination": self.contamination.to_dict() if self.contamination else None,
            "unseen_images_only": _to_dicts(self.clean),
            "confidence": self.confidence.to_dict() if self.confidence else None,
            "position_bias": self.positions.to_dict() if self.positions else None,
            "breakdown": {
                tag: {value: _to_dicts(columns) for value, columns in values.items()}
                for tag, values in self.breakdown.items()
            },
        }


def _to_dicts(estimates: Estimates) -> dict[str, Any]:
    return {key: asdict(estimate) for key, estimate in estimates.items()}


def analyse(
    evaluation: Evaluation,
    *,
    predictions: Mapping[str, Any] | None = None,
    training: TrainingData | None = None,
    image_root: Path | None = None,
) -> Analysis:
    """Put intervals, breakdowns, baselines and the contamination check beside a result.

    Args:
        evaluation: The scored questions.
        predictions: Manifest of the predictions file.
        training: What a model may have learned from; without it there are no baselines.
        image_root: Folder of the test images, needed with ``training``.
    """
    keys = [metric.key for metric in evaluation.profile.metrics]
    contamination, clean, baselines = None, {}, {}
    if training is not None and image_root is not None:
        contamination = check_contamination(
            training.records, evaluation.records, training.image_root, image_root
        )
        unseen = [q for q in evaluation.questions if q.record.id in contamination.clean_ids]
        clean = intervals(unseen, keys) if unseen else {}
        baselines = {
            name: _baseline(evaluation, build(training.records, evaluation.records))
            for name, build in BASELINES.items()
        }
    return Analysis(
        evaluation=evaluation,
        predictions=predictions,
        estimates=intervals(evaluation.questions, keys),
        breakdown=breakdown(evaluation),
        baselines=baselines,
        contamination=contamination,
        clean=clean,
        confidence=assess_confidence(evaluation.questions),
        positions=position_bias(evaluation.questions),
    )


def _baseline(evaluation: Evaluation, answers: Any) -> Estimates:
    scored = score(evaluation.records, answers, evaluation.profile, "baseline")
    return intervals(scored.questions, [metric.key for metric in evaluation.profile.metrics])
