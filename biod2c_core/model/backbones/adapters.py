"""Which layers of a language model LoRA adapts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from biod2c_core.errors import ConfigError

# How language models call the projections that LoRA adapts in the paper's (query and value, or the one
# layer that holds both), the first that is there.
_PROJECTIONS = (
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
        targets: The names, or ``auto`` for the attention's query and value projections by whatever
            name the model has them.

    Raises:
        ConfigError: ``auto``, and no name is known.
    """
    if targets != "auto":
        return list(targets)
    names = {name.rpartition(".")[2] for name, _ in language_model.named_modules()}
    for candidates in _PROJECTIONS:
        if names.issuperset(candidates):
            return list(candidates)
    raise ConfigError(
        f"{type(language_model).__name__} names its attention projections in no known way",
        "Name the layers to adapt with model.lora.targets=[...].",
    )
