"""How the language model's own weights, which only full fine-tuning trains, are held in memory."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn

from biod2c_core.config import StageSettings
from biod2c_core.errors import ConfigError, MissingDependencyError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration


def base_dtype(settings: StageSettings) -> torch.dtype:
    """The type in which the frozen language model is read; four bits are made of bfloat16."""
    return torch.float32 if settings.base_weights == "float32" else torch.bfloat16


def hold_base_weights(model: BioD2CForConditionalGeneration, settings: StageSettings) -> None:
    """Round the frozen weights of the language model as a stage asks for, in place.

    Args:
        model: Prepared for its stage: adapters are in place, and are left as they are.
        settings: ``base_weights`` is ``float32`` (nothing is done), ``bfloat16``, or ``nf4``: the
            decoder's linear layers in four bits, the rest in bfloat16.

    Raises:
        ConfigError: Without mixed precision, which brings the types together again.
        MissingDependencyError: ``nf4`` without bitsandbytes.
    """
    if settings.base_weights == "float32":
        return
    if not settings.bf16:
        raise ConfigError(
            f"base_weights={settings.base_weights} needs mixed precision", "Add --bf16."
        )
    if settings.base_weights == "nf4":
        _quantize(model.language_model)
    for parameter in model.language_model.parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)


def _quantize(language_model: nn.Module) -> None:
    if find_spec("bitsandbytes") is None:
        raise MissingDependencyError("bitsandbytes", "qlora")
    import bitsandbytes

    head = language_model.get_output_embeddings()  # type: ignore[operator]
    for name, layer in list(language_model.named_modules()):
        if not isinstance(layer, nn.Linear) or layer is head or layer.weight.requires_grad:
            continue
        packed = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
            device="meta",
        )
        packed.weight = bitsandbytes.nn.Params4bit(
            layer.weight.data, requires_grad=False, quant_type="nf4", module=packed
        )
        packed.bias = layer.bias
        parent, _, last = name.rpartition(".")
        setattr(language_model.get_submodule(parent), last, packed.to(layer.weight.device))


def unpack_base_weights(model: BioD2CForConditionalGeneration) -> None:
    """Turn four-bit layers into plain ones again, in place, so that the model can be saved."""
    import bitsandbytes

    for name, layer in list(model.language_model.named_modules()):
        if not isinstance(layer, bitsandbytes.nn.Linear4bit):
            continue
        state = layer.weight.quant_state
        weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state)
        rows, columns = state.shape
        plain = nn.Linear(columns, rows, bias=layer.bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.to(torch.bfloat16), requires_grad=False)
        plain.bias = layer.bias
        parent, _, last = name.rpartition(".")
        setattr(model.language_model.get_submodule(parent), last, plain)
