"""Configuration: frozen settings, read from YAML presets, changed by flags. Free of torch."""

from biod2c_core.config.reading import (
    PRESETS,
    build,
    dump_config,
    load_config,
    override,
    preset_names,
)
from biod2c_core.config.run_file import RunSettings, read_run
from biod2c_core.config.settings import (
    LoraSettings,
    ModelSettings,
    StageSettings,
    Switch,
    TrainingConfig,
    VisionConfig,
    current_name,
    names_of,
    of_switch,
    settings_of,
    switches,
)

__all__ = [
    "PRESETS",
    "LoraSettings",
    "ModelSettings",
    "RunSettings",
    "StageSettings",
    "Switch",
    "TrainingConfig",
    "VisionConfig",
    "build",
    "current_name",
    "dump_config",
    "load_config",
    "names_of",
    "of_switch",
    "override",
    "preset_names",
    "read_run",
    "settings_of",
    "switches",
]
