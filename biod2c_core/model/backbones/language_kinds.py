"""Which kinds of language models fit, told from their configuration."""

from __future__ import annotations

from inspect import signature
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from biod2c_core.errors import ConfigError


def check_language_model(config: Any, name: str) -> None:
    """Refuse kinds of language models that cannot be trained or asked here, before anything is built.

    Args:
        config: Its configuration.
        name: What to call it.

    Raises:
        ConfigError: It has an encoder; or it is a state-space model, or an old one, without the
            key-value cache from which transformers decodes.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{name} is an encoder-decoder model ({config.model_type})",
            "BioD2C needs a causal (decoder-only) language model.",
        )
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is not None and not _has_key_value_cache(kind, layer_kinds(config)):
        raise ConfigError(
            f"{name} is a state-space model or keeps no key-value cache ({config.model_type})",
            "BioD2C needs a language model with attention, such as Llama, Qwen or Gemma.",
        )


def layer_kinds(config: Any) -> set[str]:
    """Kinds of the layers of a language model as transformers names them; empty where all are alike."""
    return set(getattr(config.get_text_config(), "layer_types", None) or ())


def _has_key_value_cache(kind: Any, layers: set[str]) -> bool:
    # RecurrentGemma has a sliding window beside its recurrence, and no cache that a caller could hold
    recurrent = "linear_attention" in layers and layers <= {"linear_attention", "sliding_attention"}
    takes = signature(kind.forward).parameters
    return (
        not recurrent
        and {"inputs_embeds", "past_key_values"} <= takes.keys()
        and kind._supports_default_dynamic_cache()
    )
