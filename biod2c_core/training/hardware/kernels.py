"""With which kernels the language model computes: plain ones on the CPU, others on a GPU if asked for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import nn
from transformers.integrations.liger import apply_liger_kernel

from biod2c_core.config import StageSettings
from biod2c_core.errors import ConfigError, MissingDependencyError
from biod2c_core.model.backbones.language_kinds import layer_kinds
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.ops.dropout import Dropout

_NEEDS = {  # of a switch: its package, the extra that brings it, and why it needs a GPU
    "packing": ("flash_attn", "packing", "varlen attention runs"),
    "liger": ("liger_kernel", "liger", "Liger's kernels run"),
}
# Kinds of layers that do not start anew where positions restart.
_CARRYING = ("linear_attention", "hybrid", "hybrid_sliding", "conv")


def check_kernels(settings: StageSettings, on_cpu: bool) -> None:
    """Refuse switches that cannot work here, before anything is done.

    Raises:
        ConfigError: There is no GPU, or packing lacks mixed precision.
        MissingDependencyError: The package of a switch is not installed.
    """
    for switch, (package, extra, reason) in _NEEDS.items():
        if not getattr(settings, switch):
            continue
        if on_cpu:
            raise ConfigError(
                f"{switch}=true, but this run is on the CPU, and {reason} on CUDA devices only",
                f"Leave {switch} off.",
            )
        if find_spec(package) is None:
            raise MissingDependencyError(package, extra)
    if settings.packing and not settings.bf16:
        raise ConfigError("packing=true needs mixed precision", "Add --bf16.")


def choose_kernels(
    model: BioD2CForConditionalGeneration, settings: StageSettings, on_cpu: bool
) -> None:
    """Set the kernels that a stage asks for, in place.

    Raises:
        ConfigError: The language model knows no varlen attention, or has layers that carry a state on.
    """
    language_model = model.language_model
    if on_cpu:  # sequences are short: the plain attention is faster
        language_model.set_attn_implementation("eager")
        _lighten_adapters(language_model, settings.bf16)
    if settings.packing:
        _check_packing(model.config.text_config)
        try:
            language_model.set_attn_implementation("flash_attention_2")
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"packing=true does not work here ({' '.join(str(error).split())[:200]})",
                "Leave packing off.",
            ) from error
        model.packing = True
    if settings.liger:  # the losses are the model's own
        apply_liger_kernel(
            language_model, {"cross_entropy": False, "fused_linear_cross_entropy": False}
        )


def _check_packing(text_config: Any) -> None:
    carrying = sorted(each for each in layer_kinds(text_config) if each in _CARRYING)
    if carrying:
        raise ConfigError(
            f"packing=true, but layers of the language model ({', '.join(carrying)}) carry what they "
            "have read of one sample into the next",
            "Leave packing off.",
        )


def _lighten_adapters(language_model: Any, mixed: bool) -> None:
    """Give LoRA layers our dropout, in place, and let mixed precision alone cast what they read.

    PEFT would cast it to the adapter's float32 in front of the dropout, for autocast to cast it back.
    """
    from peft.tuners.lora import LoraLayer

    for layer in language_model.modules():
        if not isinstance(layer, LoraLayer):
            continue
        layer.cast_input_dtype_enabled = not mixed
        for name, dropout in layer.lora_dropout.items():
            if isinstance(dropout, nn.Dropout):
                layer.lora_dropout[name] = Dropout(dropout.p).train(dropout.training)
