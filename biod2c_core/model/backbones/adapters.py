"""Which layers of a language model LoRA adapts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from biod2c_core.errors import ConfigError

# Names of the layers that LoRA adapts in the paper (the query and value projections, or the one layer that
# holds both) in one family of language models each; the first that a model has all of counts.
_QUERY_AND_VALUE = (
    ("q_proj", "v_proj"),
    ("query_key_value",),
    ("c_attn",),
    ("qkv_proj",),
    ("Wqkv",),
    ("q_lin", "v_lin"),
    ("query", "value"),
)


def lora_targets(language_model: nn.Module, targets: Sequence[str] | Literal["auto"]) -> list[str]:
    """Names of the layers to adapt.

    Args:
        language_model: The model.
        targets: The names, or ``auto``: the attention's query and value projections, whatever the model
            calls them.

    Raises:
        ConfigError: The model does not have a layer of each name; or ``auto``, and it has them under no
            known name.
    """
    paths = {name for name, _ in language_model.named_modules()}
    names = {name.rpartition(".")[2] for name in paths}
    known = next((each for each in _QUERY_AND_VALUE if names.issuperset(each)), None)
    kind = type(language_model).__name__
    if targets == "auto":
        if known is None:
            raise ConfigError(
                f"{kind} calls its attention projections by none of the known names",
                f"Name the layers to adapt with model.lora.targets=[...]: {_layers(language_model)}.",
            )
        return list(known)
    # peft is content with one that it finds, and would leave the others out without a word
    missing = [
        name for name in targets if not any(f".{path}".endswith(f".{name}") for path in paths)
    ]
    if missing:
        there = f", which here is {', '.join(known)}" if known else ""
        raise ConfigError(
            f"LoRA is to adapt {', '.join(missing)}, and {kind} has no layer of that name",
            f"Set model.lora.targets=auto{there}; or name some of: {_layers(language_model)}.",
        )
    return list(targets)


def _layers(language_model: nn.Module) -> str:
    """Names of the linear layers, but for the head."""
    head = getattr(language_model, "get_output_embeddings", lambda: None)()
    return ", ".join(
        dict.fromkeys(
            name.rpartition(".")[2]
            for name, module in language_model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        )
    )
