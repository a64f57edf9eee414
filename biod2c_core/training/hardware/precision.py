"""Mixed precision where it is one: hardware without bfloat16 arithmetic imitates it, slowly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from biod2c_core.config import StageSettings

_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # x86, x86, Arm, Arm


def computes_in_bf16(on_cpu: bool) -> bool:
    """Whether a training gains by bfloat16: on GPUs and processors with instructions for it.

    Without them a matrix product (2048 x 256 x 1024, AVX2) took 115 times as long as in float32.
    """
    if not on_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # An older torch cannot tell; float32 is right everywhere.
    tell = getattr(torch.cpu, "get_capabilities", None)
    capabilities: Mapping[str, Any] = tell() if tell else {}
    return any(capabilities.get(name) for name in _INSTRUCTIONS)


def fit_precision(settings: StageSettings, on_cpu: bool) -> StageSettings:
    """The settings with ``bf16`` off where it would only cost time.

    Base weights in bfloat16 or four bits stay as they are: they were asked for to save memory.

    Args:
        settings: As configured.
        on_cpu: Whether the processes compute on the CPU.
    """
    if not settings.bf16 or settings.base_weights != "float32" or computes_in_bf16(on_cpu):
        return settings
    return replace(settings, bf16=False)
