"""Where a model runs."""

from __future__ import annotations

import torch

from biod2c_core.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """``auto`` becomes CUDA, MPS or the CPU, whichever is there.

    Raises:
        ConfigError: The device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}", "Use auto, cpu, cuda or cuda:N.") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"device {name!r} is not here ({count} CUDA devices)", "Use the device auto, or cpu."
        )
    return device
