"""Which layers of a language model LoRA adapts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

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
        ConfigError: ``auto``, and the model has them under no known name.
    """
    if targets != "auto":
        return list(targets)
    names = {name.rpartition(".")[2] for name, _ in language_model.named_modules()}
    for candidates in _QUERY_AND_VALUE:
        if names.issuperset(candidates):
            return list(candidates)
    raise ConfigError(
        f"{type(language_model).__name__} calls its attention projections by none of the known names",
        "Name the layers to adapt with model.lora.targets=[...].",
    )
