"""A frozen trunk rewritten for speed: BatchNorm folded into the convolutions, channels last."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERANCE = 1e-3  # of the largest value: a wrong pairing is off by far more


class FoldedTrunk:
    """A folded copy of a frozen trunk, for training.

    It is not a module, so that the copy is neither saved nor counted; it follows the images from device
    to device and from type to type by itself.

    Args:
        trunk: As for :func:`fold_batch_norms`.
        image_size: Side of the square input, pixels.
    """

    def __init__(self, trunk: nn.Module, image_size: int) -> None:
        weight = next(trunk.parameters())
        shape = (1, 3, image_size, image_size)
        self.trunk = fold_batch_norms(
            trunk, torch.rand(shape, device=weight.device, dtype=weight.dtype)
        )

    def on(self, pixels: Tensor) -> nn.Module:
        """The copy on the images' device, in their type or in that of autocast."""
        kind = pixels.device.type
        mixed = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if mixed else pixels.dtype
        weight = next(self.trunk.parameters())
        if (weight.device, weight.dtype) != (pixels.device, dtype):
            self.trunk.to(pixels.device, dtype)
        return self.trunk


def has_batch_norms(trunk: nn.Module) -> bool:
    """Whether there is anything to fold."""
    return any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())


@torch.no_grad()
def fold_batch_norms(trunk: nn.Module, probe: Tensor) -> nn.Module:
    """Copy a trunk in evaluation mode, with each BatchNorm folded into the convolution before it.

    One run shows which convolution that is: the one whose output the BatchNorm receives. The original
    stays as it is.

    Args:
        trunk: Convolutions and BatchNorms, or neither.
        probe: Images to run it on, (1, 3, H, W).

    Returns:
        The copy, channels last. Nothing is folded in it where that would change the features: where
        others read the output of a convolution too.
    """
    unfolded = copy.deepcopy(trunk).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folded = copy.deepcopy(unfolded)
    for norm_name, conv_name in _pairs(folded, probe):
        _fold(folded, norm_name, conv_name)
    wanted, got = unfolded(probe), folded(probe)
    same = all(
        (a - b).abs().max() <= _TOLERANCE * a.abs().max().clamp(min=1e-6)
        for a, b in zip(wanted, got, strict=True)
    )
    return folded if same else unfolded


def _pairs(trunk: nn.Module, probe: Tensor) -> list[tuple[str, str]]:
    """Names of each BatchNorm and of the convolution whose output it reads, if that ran only once."""
    producers: dict[int, str] = {}  # of an output, by its address
    outputs: list[Tensor] = []  # kept alive, so that no two share an address
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def remember(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            producers[id(output)] = name
            outputs.append(output)
            calls[name] = calls.get(name, 0) + 1

        return hook

    def look_up(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if id(inputs[0]) in producers:
                pairs.append((name, producers[id(inputs[0])]))

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
    # timm's BatchNorm also holds the dropout and the activation behind it.
    rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part]
    parent, _, last = norm_name.rpartition(".")
    setattr(trunk.get_submodule(parent), last, nn.Sequential(*rest))
