"""A new model from its parts: a trunk's weights, a language model's folder, random fusion weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from biod2c_core.config import ModelSettings, switches
from biod2c_core.errors import ConfigError
from biod2c_core.model.backbones.defaults import Tower, resolve_tower
from biod2c_core.model.backbones.language_model import load_language_model
from biod2c_core.model.backbones.trunk_weights import load_trunk
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor


def model_config(
    settings: ModelSettings, text_config: Any, tower: Tower | None = None
) -> BioD2CConfig:
    """The transformers configuration that a preset's model section describes."""
    tower = tower or resolve_tower(settings.vision)
    return BioD2CConfig(
        vision=tower.arguments,
        text_config=text_config,
        **{name: getattr(settings, name) for name in switches()},
    )


def build_model(
    settings: ModelSettings, seed: int, language_dtype: torch.dtype = torch.float32
) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    """Assemble a model for stage 1.

    Args:
        settings: The preset's model section; ``language_model`` must name a folder, a GGUF file or a
            hub model.
        seed: Of the random fusion weights.
        language_dtype: Of the language model's weights, which are read in it, once.

    Returns:
        The model on the CPU, all but the language model in float32, and its processor.

    Raises:
        ConfigError: No language model is named.
        CheckpointError: A part is missing or does not fit.
    """
    if not settings.language_model:
        raise ConfigError(
            "no language model is named", "Give --set model.language_model=FOLDER_OR_HUB_NAME."
        )
    tower = resolve_tower(settings.vision)
    tokenizer, language_model = load_language_model(settings.language_model, language_dtype)
    torch.manual_seed(seed)
    # a copy: transformers takes the attention's implementation away from a configuration inside another
    config = model_config(settings, deepcopy(language_model.config), tower)
    model = BioD2CForConditionalGeneration(config, language_model)
    model.generation_config = language_model.generation_config
    if tower.weights:
        load_trunk(model.vision, tower.weights)
    processor = BioD2CProcessor(
        tokenizer,
        image_size=tower.arguments["image_size"],
        image_mean=tower.mean,
        image_std=tower.std,
        prompt=settings.prompt,
        max_question_tokens=settings.num_visual_tokens,
    )
    config.begin_tokens = len(processor.begin_ids())
    _agree_on_special_tokens(model, processor)
    return model, processor


def _agree_on_special_tokens(
    model: BioD2CForConditionalGeneration, processor: BioD2CProcessor
) -> None:
    """Let generation also stop at the token which training puts after answers."""
    generation = model.generation_config
    stops = generation.eos_token_id
    known = stops if isinstance(stops, list) else [] if stops is None else [stops]
    ends = dict.fromkeys([*known, processor.tokenizer.eos_token_id, processor.end_token_id])
    if len(ends) > len(known):
        generation.eos_token_id = list(ends)
    if generation.pad_token_id is None:
        generation.pad_token_id = processor.tokenizer.pad_token_id
