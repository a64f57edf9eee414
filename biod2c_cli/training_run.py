"""What ``biod2c train`` is asked to do, from a run file and from flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biod2c_core.config import RunSettings, TrainingConfig, load_config, override, read_run
from biod2c_core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from biod2c_core.evaluation.choosing import CheckpointMetric


@dataclass(frozen=True)
class TrainingRun:
    """One stage to train.

    Attributes:
        config: The settings.
        stage: 1 or 2.
        checkpoint: The model to start from; None for the settings' parts.
        data: Record files or data set folders.
        validation: Records on which the loss is measured.
        output: The run folder.
        source: Where the settings come from, for messages.
        model_keys: What the run file sets of the model.
        criterion: What checkpoints are compared by; None exports the last.
    """

    config: TrainingConfig
    stage: int
    checkpoint: str | None
    data: list[Path]
    validation: Path | None
    output: Path
    source: str
    model_keys: tuple[str, ...] = ()
    criterion: CheckpointMetric | None = None

    def with_settings(self, assignments: Sequence[str], flags: Mapping[str, Any]) -> TrainingRun:
        """The same run with the settings of ``--set``, and of flags, which win.

        Raises:
            ConfigError: A key or value does not fit, the checkpoint has decided it, or there is no model
                to train.
        """
        changes = [f"stage{self.stage}.{key}={value}" for key, value in flags.items()]
        config = override(self.config, [*assignments, *changes])
        if self.checkpoint is None and not config.model.language_model:
            raise ConfigError(
                f"{self.source} names no language model, and no checkpoint is given",
                "Start from one, --model biod2c-tiny (the embedded model) or --model CHECKPOINT; or "
                "name a language model: --set model.language_model=FOLDER_OR_HUB_NAME.",
            )
        if self.checkpoint is not None and (assignments or self.model_keys):
            from biod2c_core.training.start import check_changes, check_decided

            check_changes(self.checkpoint, assignments)
            check_decided(config, self.checkpoint, self.model_keys)
        return replace(self, config=config)

    def check_paths(self) -> None:
        """See that there is data where it is said to be; a model takes long to read.

        Raises:
            InputError: There is nothing, or nothing of a known format.
        """
        from biod2c_core.data.formats import find_format

        for path in (*self.data, *([self.validation] if self.validation else [])):
            find_format(path)


def plan_run(
    run_file: str | None,
    stage: int | None,
    preset: str | None,
    checkpoint: str | None,
    data: list[Path] | None,
    validation: Path | None,
    output: Path | None,
    select: str | None = None,
) -> TrainingRun:
    """Put a run file and flags together; what a flag says counts.

    Raises:
        InputError: Data or output are missing, or there is no such metric.
        ConfigError: The file cannot be read, or something in it does not fit.
    """
    said, config = RunSettings(), None
    model_keys: tuple[str, ...] = ()
    if run_file is not None:
        if not run_file.endswith((".yaml", ".yml")):
            raise InputError(
                f"{run_file!r} is not a YAML file", "Data goes behind --data, the preset --preset."
            )
        said, config, model_keys = read_run(run_file, preset)
    data = data or [Path(each) for each in said.sources]
    output = output or (Path(said.output) if said.output else None)
    place = "a run file" if run_file is None else run_file
    if not data:
        raise InputError("no data is given", f"Add --data FILE_OR_FOLDER, or 'data' in {place}.")
    if output is None:
        raise InputError("no run folder is given", f"Add --output FOLDER, or 'output' in {place}.")
    source = run_file or f"preset {preset or said.preset!r}"
    return TrainingRun(
        config=config or load_config(preset or said.preset),
        stage=stage or said.stage,
        checkpoint=checkpoint or said.checkpoint or None,
        data=data,
        validation=validation or (Path(said.validation) if said.validation else None),
        output=output,
        source=source,
        model_keys=model_keys,
        criterion=_criterion(select or said.select),
    )


def _criterion(select: str) -> CheckpointMetric | None:
    if not select:
        return None
    from biod2c_core.evaluation.choosing import find_metric

    return find_metric(select)
