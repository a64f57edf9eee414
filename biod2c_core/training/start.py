"""What a run starts from: a preset's parts, or a checkpoint with what it has decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from biod2c_core.config import (
    LoraSettings,
    ModelSettings,
    TrainingConfig,
    VisionConfig,
    build,
    current_name,
    of_switch,
    switches,
)
from biod2c_core.errors import ConfigError
from biod2c_core.model.backbones.language_model import pretrained_arguments
from biod2c_core.model.build import build_model, model_config
from biod2c_core.model.checkpoints.folder import (
    load_model_config,
    load_model_to_train,
    load_processor,
    locate,
)
from biod2c_core.model.checkpoints.pretrained import loading, pretrained_config
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor


def check_changes(checkpoint: str, assignments: Sequence[str]) -> None:
    """Refuse assignments to what the checkpoint that training starts from has decided.

    Args:
        checkpoint: Its folder or hub name.
        assignments: As given by hand, for example ``["model.scales=3"]``.

    Raises:
        ConfigError: One of them would have no effect.
        CheckpointError: There is no such checkpoint.
    """
    keys = [each.partition("=")[0].strip() for each in assignments]
    names = {key: _model_setting(key) for key in keys if key.startswith("model.")}
    asked = {key: name for key, name in names.items() if of_switch(name).checkpoint != "open"}
    if not asked:
        return
    there = load_model_config(locate(checkpoint))
    for key, name in asked.items():
        if of_switch(name).checkpoint == "decides" or getattr(there, name):
            raise ConfigError(
                f"{key} cannot be changed, the checkpoint {checkpoint} has decided it",
                "Leave it out, or leave out --model.",
            )


def check_decided(config: TrainingConfig, checkpoint: str, keys: Sequence[str]) -> None:
    """Refuse what a run file says of the model, if the checkpoint has decided otherwise.

    Args:
        config: From preset, run file and flags.
        checkpoint: Its folder or hub name.
        keys: The settings of the model that the file names.

    Raises:
        ConfigError: One of them would have no effect.
        CheckpointError: There is no such checkpoint.
    """
    decided = resolve_config(config, checkpoint).model if keys else config.model
    for name in (current_name(ModelSettings, key) for key in keys):
        if getattr(config.model, name) != getattr(decided, name):
            raise ConfigError(
                f"model.{name} cannot be changed, the checkpoint {checkpoint} has decided it",
                "Leave it out of the run file, or leave out the checkpoint.",
            )


def _model_setting(key: str) -> str:
    """``model.lora.r`` -> ``lora``."""
    return current_name(ModelSettings, key.split(".")[1])


def resolve_config(config: TrainingConfig, checkpoint: str | None) -> TrainingConfig:
    """The configuration with what a checkpoint has decided in place of what the preset says.

    Args:
        config: From preset and flags.
        checkpoint: The model to start from; None for the configuration's own parts.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
    """
    if checkpoint is None:
        return config
    folder = locate(checkpoint)
    there, processor = load_model_config(folder), load_processor(folder)
    wanted = config.model
    values = {
        name: {
            "decides": getattr(there, name),
            "open": getattr(wanted, name),
            "may begin": getattr(there, name) or getattr(wanted, name),
        }[switch.checkpoint]
        for name, switch in switches().items()
    }
    vision = {name: value for name, value in there.vision.items() if name != "definition"}
    vision |= {"mean": processor.image_mean, "std": processor.image_std}
    # where its parts once came from, a checkpoint does not say
    vision |= {"weights": wanted.vision.weights}
    model = ModelSettings(
        vision=build(VisionConfig, vision, "vision"),
        language_model=wanted.language_model,
        lora=_lora_settings(there.lora) if there.lora else wanted.lora,
        prompt=processor.prompt,
        **values,
    )
    return replace(config, model=model)


def _lora_settings(arguments: dict[str, Any]) -> LoraSettings:
    from peft import LoraConfig

    lora = LoraConfig(**arguments)
    targets = arguments.get("target_modules") or ()
    return LoraSettings(
        r=lora.r,
        alpha=lora.lora_alpha,
        dropout=lora.lora_dropout,
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
    )


def describe_model(config: TrainingConfig, checkpoint: str | None) -> BioD2CConfig:
    """The configuration of the model that :func:`start_model` gives; no weights are read.

    Args:
        config: From :func:`resolve_config`.
        checkpoint: The model to start from.

    Raises:
        CheckpointError: The configuration of checkpoint or language model cannot be read.
    """
    if checkpoint is not None:
        described = load_model_config(locate(checkpoint))
        for name in switches():
            setattr(described, name, getattr(config.model, name))
        return described
    name = config.model.language_model
    place, options = pretrained_arguments(name)
    with loading(
        f"cannot read the configuration of the language model {name}",
        "Give a folder with config.json, a GGUF file, or a hub name.",
    ):
        text_config = pretrained_config(place, **options)
    return model_config(config.model, text_config)


def start_model(
    config: TrainingConfig,
    checkpoint: str | None,
    seed: int,
    language_dtype: torch.dtype = torch.float32,
) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    """The model that a run trains, and its processor.

    Args:
        config: From :func:`resolve_config`.
        checkpoint: The model to start from; by default it is built from the configuration's parts.
        seed: Of what is new in it.
        language_dtype: Of the language model's own weights, which are frozen.
    """
    if checkpoint is None:
        return build_model(config.model, seed, language_dtype)
    folder = locate(checkpoint)
    model = load_model_to_train(folder, language_dtype)
    torch.manual_seed(seed)  # as build_model does: new parts are drawn next
    for name, switch in switches().items():
        value = getattr(config.model, name)
        if switch.checkpoint == "open":
            setattr(model.config, name, value)
        elif switch.checkpoint == "may begin" and value:
            for each in [name] if value is True else value:
                model.extend(each)
    model.fusion.set_dropout(config.model.fusion_dropout)
    return model, load_processor(folder)
