"""The language model in 8 or 4 bits, for answering on less memory."""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import nn

from biod2c_core.errors import ConfigError, InputError

VARIABLE = "BIOD2C_LOAD_IN"
_BITS = {"8bit": 8, "4bit": 4}
_GROUP = 32  # weights that share one scale, in 4 bits


def bits_from_environment() -> int | None:
    """The 8 or 4 of ``$BIOD2C_LOAD_IN`` (``8bit`` or ``4bit``); None where it is not set.

    Raises:
        ConfigError: It has another value.
    """
    text = os.environ.get(VARIABLE, "")
    if text and text not in _BITS:
        raise ConfigError(f"{VARIABLE} is {text!r}", f"Use one of: {', '.join(_BITS)}.")
    return _BITS.get(text)


def quantize_language_model(language_model: nn.Module, bits: int) -> int:
    """Pack the weights of the linear layers, in place; the head and LoRA adapters stay as they are.

    On CUDA with bitsandbytes, where it is installed; with torchao otherwise. The result is for answering:
    it can be neither trained nor saved.

    Args:
        language_model: On its device.
        bits: 8 or 4.

    Returns:
        How many layers were packed.

    Raises:
        InputError: Neither package is installed, or the one that is cannot do it on this device.
    """
    layers = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name and not name.endswith("lm_head")
    }
    on_cuda = next(language_model.parameters()).device.type == "cuda"
    try:
        if on_cuda and importlib.util.find_spec("bitsandbytes"):
            _pack_with_bitsandbytes(language_model, layers, bits)
        elif importlib.util.find_spec("torchao"):
            _pack_with_torchao(language_model, layers, bits)
        else:
            raise InputError(
                f"{bits}-bit loading needs the package 'torchao', or on CUDA 'bitsandbytes'; neither "
                "is installed",
                "Install one of them with pip.",
            )
    except (ImportError, RuntimeError, NotImplementedError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the language model cannot be packed into {bits} bits here ({reason})",
            f"Unset {VARIABLE}, or use another device.",
        ) from error
    return len(layers)


def _pack_with_torchao(language_model: nn.Module, layers: dict[str, nn.Linear], bits: int) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    if bits == 8:
        quantize_(language_model, Int8WeightOnlyConfig(), lambda _, name: name in layers)
        return
    grouped = {name for name, layer in layers.items() if layer.in_features % _GROUP == 0}
    int4 = torch.int4  # type: ignore[attr-defined]  # torch has it, its stubs do not
    for names, granularity in ((grouped, PerGroup(_GROUP)), (layers.keys() - grouped, PerAxis(0))):
        config = IntxWeightOnlyConfig(weight_dtype=int4, granularity=granularity)
        quantize_(language_model, config, lambda _, name, names=names: name in names)


def _pack_with_bitsandbytes(
    language_model: nn.Module, layers: dict[str, nn.Linear], bits: int
) -> None:
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    for name, old in layers.items():
        shape, biased = (old.in_features, old.out_features), old.bias is not None
        weight, device = old.weight.data.cpu(), old.weight.device
        if bits == 8:
            new = Linear8bitLt(*shape, bias=biased, has_fp16_weights=False)
            new.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        else:
            new = Linear4bit(*shape, bias=biased, compute_dtype=weight.dtype, quant_type="nf4")
            new.weight = Params4bit(weight, requires_grad=False, quant_type="nf4")
        if biased:
            new.bias = old.bias
        parent, _, last = name.rpartition(".")
        setattr(language_model.get_submodule(parent), last, new.to(device))
