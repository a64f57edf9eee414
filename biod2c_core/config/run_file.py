"""A run in one file: settings, and what they are to be used on."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field, StrictStr
from pydantic.dataclasses import dataclass

from biod2c_core.config.reading import build, load_config, read_tree, to_tree
from biod2c_core.config.settings import STRICT, TrainingConfig, settings_of
from biod2c_core.errors import ConfigError, nearest


@dataclass(frozen=True, config=STRICT)
class RunSettings:
    """What a run file says beside the settings that a preset has, too."""

    preset: StrictStr = Field(
        default="tiny", description="The settings that those of this file are changes of."
    )
    stage: Literal[1, 2] = Field(default=2, description="1 aligns, 2 fine-tunes with LoRA.")
    checkpoint: StrictStr = Field(
        default="", description="The model to start from; by default the preset's parts."
    )
    data: tuple[StrictStr, ...] | StrictStr = Field(
        default=(), description="Record files or data set folders."
    )
    validation: StrictStr = Field(
        default="", description="Records on which the loss is measured every so often."
    )
    select: StrictStr = Field(
        default="",
        description="The metric of the validation by which a checkpoint is chosen: loss, a column of "
        "the default profile, or PROFILE:COLUMN.",
    )
    output: StrictStr = Field(default="", description="The run folder.")

    @property
    def sources(self) -> tuple[str, ...]:
        """``data`` as a list, whether it is one or several."""
        return (self.data,) if isinstance(self.data, str) else self.data


class RunFile(NamedTuple):
    """A run file that has been read.

    Attributes:
        run: What to train, on what, and where to.
        config: The preset with the file's changes.
        model_keys: The settings of the model that the file names.
    """

    run: RunSettings
    config: TrainingConfig
    model_keys: tuple[str, ...]


def read_run(path: str, preset: str | None = None) -> RunFile:
    """Read a run file.

    Args:
        path: A YAML file. Its paths are relative to the current folder, as those of flags are.
        preset: Instead of the file's own.

    Raises:
        ConfigError: It cannot be read, or has a key or value that does not fit.
    """
    tree = read_tree(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} does not describe a run", "Write keys with their values.")
    own = settings_of(RunSettings)
    run = build(RunSettings, {key: tree[key] for key in tree if key in own}, "")
    settings = {key: value for key, value in tree.items() if key not in own}
    for key in settings:
        if key not in settings_of(TrainingConfig) and (meant := nearest(str(key), own)):
            raise ConfigError(f"unknown key {key!r}", f"Did you mean {meant!r}?")
    config = build(
        TrainingConfig, _merged(to_tree(load_config(preset or run.preset)), settings), ""
    )
    return RunFile(run, config, tuple(settings.get("model") or ()))


def _merged(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}
