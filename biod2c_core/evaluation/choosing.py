"""What a checkpoint is chosen by while a model is trained: the validation loss, or a column of a profile.

Questions are answered and scored as in any other evaluation; training only says when, by which weights,
and where the answers go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError, did_you_mean
from biod2c_core.evaluation.predict.answers import AnswersQuestions
from biod2c_core.evaluation.predict.predict import predict
from biod2c_core.evaluation.predict.predictions_file import (
    Prediction,
    manifest_path,
    read_manifest,
    read_predictions,
)
from biod2c_core.evaluation.predict.sharding import absorb_shards
from biod2c_core.evaluation.score.profiles import (
    DEFAULT_PROFILE,
    Profile,
    get_profile,
    profile_names,
    rule_profiles,
)
from biod2c_core.evaluation.score.score import score

LOSS = "loss"


@dataclass(frozen=True)
class CheckpointMetric:
    """What checkpoints are compared by.

    Attributes:
        name: ``loss``, or ``PROFILE:COLUMN``.
        column: What the log calls it, behind ``eval_``.
        profile: The convention that scores answers; None for the loss, which needs none.
    """

    name: str
    column: str
    profile: Profile | None = None

    @property
    def needs_answers(self) -> bool:
        """Whether the validation questions have to be answered for it."""
        return self.profile is not None

    @property
    def more_is_better(self) -> bool:
        """Whether the best value is the largest."""
        return self.profile is not None

    def check(self, records: Sequence[Record]) -> None:
        """Check that it says something of these questions: right answers to them have a value.

        Raises:
            InputError: It applies to none of them, or they cannot be scored.
        """
        right = {record.id: Prediction(record.id, record.answer) for record in records}
        if self.profile is not None and self.column not in self._means(records, right):
            raise InputError(
                f"{self.name} applies to none of the {len(records):,} validation questions",
                "Choose by another metric, or validate on other records.",
            )

    def begin(self, model: AnswersQuestions, file: Path) -> None:
        """Get a file ready for the answers of a model, in one process before any answers.

        Those that a killed process has left are kept; those of other weights are removed.

        Args:
            model: Who answers.
            file: For the answers.
        """
        absorb_shards(file)
        if (read_manifest(file) or {}).get("identity") != model.identity:
            file.unlink(missing_ok=True)
            manifest_path(file).unlink(missing_ok=True)

    def answer(
        self,
        model: AnswersQuestions,
        records: Sequence[Record],
        image_root: Path,
        file: Path,
        shard: tuple[int, int],
        advance: Callable[[int], None],
    ) -> None:
        """Have the questions answered, or the share of one of several processes.

        Args:
            model: Who answers.
            records: The questions.
            image_root: Folder that their images are relative to.
            file: For the answers, after :meth:`begin`.
            shard: Index of this process and number of processes.
            advance: Called with the number of questions done.
        """
        predict(model, records, image_root, file, shard=shard, advance=advance)

    def score(self, records: Sequence[Record], file: Path) -> dict[str, float]:
        """All columns of the profile that apply, by name, in one process after all have answered."""
        absorb_shards(file)
        return self._means(records, read_predictions(file), file)

    def _means(
        self,
        records: Sequence[Record],
        predictions: dict[str, Prediction],
        file: str | Path = "predictions",
    ) -> dict[str, float]:
        assert self.profile is not None
        evaluation = score(records, predictions, self.profile, file)
        means = {each.key: evaluation.mean(each.key).value for each in self.profile.metrics}
        return {key: value for key, value in means.items() if value is not None}


def known_metrics() -> dict[str, CheckpointMetric]:
    """All metrics by name; those of the default profile also by their column alone."""
    known = {LOSS: CheckpointMetric(LOSS, LOSS)}
    for profile in rule_profiles():
        for column in profile.metrics:
            if column.ranked:
                metric = CheckpointMetric(f"{profile.name}:{column.key}", column.key, profile)
                known[metric.name] = metric
                if profile.name == DEFAULT_PROFILE:
                    known[column.key] = metric
    return known


def find_metric(name: str) -> CheckpointMetric:
    """The metric of that name.

    Args:
        name: ``loss``, ``PROFILE:COLUMN``, or a column of the default profile alone.

    Raises:
        InputError: There is none, or its numbers come from a judge; near ones are named.
    """
    known = known_metrics()
    if name in known:
        return known[name]
    profile = name.partition(":")[0]
    if profile in profile_names() and get_profile(profile).judge is not None:
        raise InputError(
            f"the numbers of the profile {profile!r} come from a judge",
            "Choose by a metric that training can compute by itself.",
        )
    alone = ", ".join(key for key in known if ":" not in key)
    raise InputError(
        f"unknown metric {name!r}",
        did_you_mean(name, known, f"Known: {alone}, and PROFILE:COLUMN of other profiles."),
    )
