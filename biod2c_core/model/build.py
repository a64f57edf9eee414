"""A new model from its parts: a trunk's weights, a language model's folder, random fusion weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from biod2c_core.config import ModelSettings
from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.model.vision import VisionTower


def model_config(settings: ModelSettings, text_config: Any) -> BioD2CConfig:
    """The transformers configuration that a preset's model section describes."""
    vision = settings.vision
    return BioD2CConfig(
        vision={
            "library": vision.library,
            "name": vision.name,
            "levels": list(vision.levels),
            "image_size": vision.image_size,
            "normalize": vision.normalize,
        },
        text_config=text_config,
        num_visual_tokens=settings.num_visual_tokens,
        scales=settings.scales,
        fusion=settings.fusion,
        fusion_layers=settings.fusion_layers,
        fusion_heads=settings.fusion_heads,
        fusion_feed_forward=settings.fusion_feed_forward,
        fusion_dropout=settings.fusion_dropout,
        text_hidden=settings.text_hidden,
        beta_init=settings.beta_init,
        encode_positions=settings.encode_positions,
        semantic_loss=settings.semantic_loss,
        semantic_temperature=settings.semantic_temperature,
    )


def build_model(
    settings: ModelSettings, seed: int
) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    """Assemble a model for stage 1.

    Args:
        settings: The preset's model section; ``language_model`` must name a folder or hub model.
        seed: Of the random fusion weights.

    Returns:
        The model in float32 on the CPU, and its processor.

    Raises:
        ConfigError: No language model is named.
        CheckpointError: A part is missing or does not fit.
    """
    if not settings.language_model:
        raise ConfigError(
            "no language model is named", "Give --set model.language_model=FOLDER_OR_HUB_NAME."
        )
    tokenizer, language_model = _load_language_model(settings.language_model)
    torch.manual_seed(seed)
    model = BioD2CForConditionalGeneration(model_config(settings, language_model.config))
    model.language_model = language_model
    model.generation_config = language_model.generation_config
    if settings.vision.weights:
        load_trunk(model.vision, Path(settings.vision.weights))
    processor = BioD2CProcessor(
        tokenizer,
        image_size=settings.vision.image_size,
        image_mean=settings.vision.mean,
        image_std=settings.vision.std,
        prompt=settings.prompt,
        max_question_tokens=settings.num_visual_tokens,
    )
    _agree_on_special_tokens(model, processor)
    return model, processor


def _agree_on_special_tokens(
    model: BioD2CForConditionalGeneration, processor: BioD2CProcessor
) -> None:
    """Let generation also stop at the tokenizer's end token, which training puts after answers."""
    tokenizer, generation = processor.tokenizer, model.generation_config
    stops = generation.eos_token_id
    known = stops if isinstance(stops, list) else [] if stops is None else [stops]
    if tokenizer.eos_token_id not in known:
        generation.eos_token_id = [*known, tokenizer.eos_token_id]
    if generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.pad_token_id


def _load_language_model(name: str) -> tuple[Any, Any]:
    try:
        config = AutoConfig.from_pretrained(name)
        if config.is_encoder_decoder:
            raise ConfigError(
                f"{name} is an encoder-decoder model ({config.model_type})",
                "BioD2C needs a causal (decoder-only) language model.",
            )
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True
        )
    except ConfigError:
        raise
    except Exception as error:  # transformers raises many kinds for a folder that is no model
        raise CheckpointError(
            f"cannot load the language model {name} ({' '.join(str(error).split())[:300]})",
            "Give a folder with config.json, tokenizer and safetensors weights, or a hub name.",
        ) from error
    return tokenizer, model


def load_trunk(tower: VisionTower, path: Path) -> None:
    """Load the weights of a vision trunk from a safetensors file, key by key.

    Raises:
        CheckpointError: The file is missing or damaged, or keys or shapes differ.
    """
    if not path.is_file():
        raise CheckpointError(f"no vision weights at {path}", "Check model.vision.weights.")
    try:
        state = load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"vision weights {path} are no safetensors file ({error})", "Convert them first."
        ) from error
    try:
        result = tower.trunk.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"vision weights {path} do not fit: {' '.join(str(error).split())[:300]}",
            "Choose the tower they were made for.",
        ) from error
    if result.missing_keys or result.unexpected_keys:
        raise CheckpointError(
            f"vision weights {path} do not fit: missing {result.missing_keys[:3]} "
            f"({len(result.missing_keys)}), unexpected {result.unexpected_keys[:3]} "
            f"({len(result.unexpected_keys)})",
            "Choose the tower they were made for.",
        )
