"""A frozen trunk rewritten for speed: BatchNorm folded into the convolutions, channels last."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERANCE = 1e-3  # of the largest value: a wrong pairing is off by far more


@torch.no_grad()
def fold_batch_norms(trunk: nn.Module, probe: Tensor) -> nn.Module:
    """Copy a trunk in evaluation mode, with each BatchNorm folded into the convolution before it.

    Which convolution that is shows when the trunk runs: the one whose output the BatchNorm receives.
    The original is left as it is.

    Args:
        trunk: Convolutions and BatchNorms, or neither.
        probe: Images to run it on, (1, 3, H, W).

    Returns:
        The copy, channels last; without anything folded, if that changes what comes out (a convolution
        whose output is read by others too).
    """
    plain = copy.deepcopy(trunk).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folded = copy.deepcopy(plain)
    for norm_name, conv_name in _pairs(folded, probe):
        _fold(folded, norm_name, conv_name)
    wanted, got = plain(probe), folded(probe)
    same = all(
        (a - b).abs().max() <= _TOLERANCE * a.abs().max().clamp(min=1e-6)
        for a, b in zip(wanted, got, strict=True)
    )
    return folded if same else plain


def _pairs(trunk: nn.Module, probe: Tensor) -> list[tuple[str, str]]:
    """Names of each BatchNorm and of the convolution that feeds it, if none other does."""
    made: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no two outputs share an address
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def remember(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            made[id(output)] = name
            kept.append(output)
            calls[name] = calls.get(name, 0) + 1

        return hook

    def look_up(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if id(inputs[0]) in made:
                pairs.append((name, made[id(inputs[0])]))

        return hook

    handles = []
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(remember(name)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(look_up(name)))
    try:
        trunk(probe)
    finally:
        for handle in handles:
            handle.remove()
    return [(norm, conv) for norm, conv in pairs if calls[conv] == 1]


def _fold(trunk: nn.Module, norm_name: str, conv_name: str) -> None:
    norm: Any = trunk.get_submodule(norm_name)
    conv: Any = trunk.get_submodule(conv_name)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    # timm's BatchNorm carries the activation that follows it
    rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part]
    parent, _, last = norm_name.rpartition(".")
    setattr(trunk.get_submodule(parent), last, nn.Sequential(*rest))
