"""The language model of a new BioD2C: any causal model of transformers, GGUF files included."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from biod2c_core.errors import CheckpointError, MissingDependencyError
from biod2c_core.model.backbones.language_kinds import check_language_model
from biod2c_core.model.checkpoints.pretrained import (
    NO_CODE,
    loading,
    pretrained_config,
    pretrained_language_model,
    pretrained_tokenizer,
)
from biod2c_core.model.configuration import without_dropout


def load_language_model(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Tokenizer and model on the CPU.

    Args:
        name: A folder with configuration, tokenizer and safetensors weights; a GGUF file (its weights
            are unpacked); or a hub name.
        dtype: Of the weights, whatever that of the file is.

    Raises:
        ConfigError: It is of a kind that does not fit, see :func:`check_language_model`.
        CheckpointError: It is missing or damaged.
        MissingDependencyError: A GGUF file is given, and the package to read it is absent.
    """
    place, options = pretrained_arguments(name)
    with loading(
        f"cannot load the language model {name}",
        "Give a folder with config.json, tokenizer and safetensors weights, a GGUF file, or a hub name.",
    ):
        config = pretrained_config(place, **options)
        check_language_model(config, name)
        without_dropout(config)
        tokenizer = pretrained_tokenizer(place, **options)
        model = pretrained_language_model(place, config, dtype, **options)
    return tokenizer, _unpacked(model) if "gguf_file" in options else model


def pretrained_arguments(name: str) -> tuple[str, dict[str, Any]]:
    """What ``from_pretrained`` of transformers needs for a folder, a GGUF file or a hub name.

    Raises:
        CheckpointError: A GGUF file is missing or damaged.
        MissingDependencyError: A GGUF file is given, and the package to read it is absent.
    """
    if not name.lower().endswith(".gguf"):
        return name, {}
    _check_gguf(Path(name))
    return str(Path(name).parent), {"gguf_file": Path(name).name}


def _check_gguf(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"no language model at {path}", "Check the path.")
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError("gguf", "gguf")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise CheckpointError(f"{path} is not a GGUF file", "It is damaged; copy it again.")


def _unpacked(model: Any) -> Any:
    """The same model without the marks of its origin, which saving would trip over."""
    fresh = AutoModelForCausalLM.from_config(
        type(model.config)(**_config_values(model.config)), **NO_CODE
    )
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    return fresh.eval()


def _config_values(config: Any) -> dict[str, Any]:
    values = config.to_dict()
    for name in ("quantization_config", "_name_or_path"):
        values.pop(name, None)
    return values
