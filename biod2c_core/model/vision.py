"""The frozen image encoder of section 3.1, which gives the grid of image features X_v.

The tower of the paper is PMC-CLIP's modified ResNet-50 without its last stage and attention pool
(stride 16): 512 x 512 pixels give X_v of 32 x 32 x 1024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model.backbones import get_vision_library
from biod2c_core.model.backbones.folding import FoldedTrunk, has_batch_norms
from biod2c_core.model.backbones.vision_library import VisionModel

_AT_ONCE = 4  # images that a CPU's caches hold: the trunk takes a third less time than for eight


class PixelScale:
    """What a trunk was trained on, made of uint8 pictures: (value / 255 - mean) / std, in float32.

    The same operations in the same order give the same bits wherever it is computed, before a batch is
    made or on the device. It is not a module: an engine that holds its model in bfloat16 would round it.

    Args:
        mean: Of the RGB channels, in [0, 1].
        std: Likewise.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._numbers = torch.tensor([[255.0] * 3, [*mean], [*std]]).view(3, 3, 1, 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        """(..., 3, H, W), uint8, to float32 of the same shape, channels first."""
        if self._numbers.device != pictures.device:
            self._numbers = self._numbers.to(pictures.device)
        white, mean, std = (
            self._numbers
        )  # tensors: a GPU multiplies by the inverse of a plain number
        pixels = pictures.to(torch.float32, memory_format=torch.contiguous_format)
        return pixels.div_(white).sub_(mean).div_(std)


def check_scale(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse what no picture can be normalized by.

    Raises:
        ConfigError: It is not three finite numbers each, the deviations above 0.
    """
    channels = len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std)))
    if not channels or min(std) <= 0:
        raise ConfigError(
            f"the image mean is {mean!r} and its deviation {std!r}",
            "Expected three numbers each, the deviations above 0.",
        )


class VisionTower(nn.Module):
    """A frozen image encoder that gives the grid X_v.

    It is always in evaluation mode (BatchNorm uses its stored statistics in both stages), and it
    never takes part in a gradient.

    Args:
        library: Name of a registered :class:`~biod2c_core.model.backbones.vision_library.VisionLibrary`.
        name: The model's name in that library.
        levels: Which stages of the pyramid to use, counted from 0; several are resampled to the
            first one's grid and concatenated along the channels.
        image_size: Height and width of the input in pixels.
        normalize: Layer-normalize each level over its channels (without weights), so that levels of
            different magnitude can be concatenated.
        definition: What to build a model from that the library does not know by name.

    Raises:
        ConfigError: The library or model is unknown, or it yields no feature map at these levels.
    """

    def __init__(
        self,
        library: str,
        name: str,
        levels: tuple[int, ...],
        image_size: int,
        normalize: bool = False,
        definition: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.library = get_vision_library(library)
        if not levels or min(levels) < 0:
            raise ConfigError(
                f"vision levels are {list(levels)}", "Give one or more stages, counted from 0."
            )
        self.model = VisionModel(name, definition)
        self.levels = tuple(levels)
        self.image_size = image_size
        self.normalize = normalize
        self.trunk = self._build_trunk()
        self._folded: FoldedTrunk | None = None
        self._scale: PixelScale | None = None
        self.requires_grad_(False)
        self.eval()

    def _build_trunk(self) -> nn.Module:
        return self.library.build_trunk(self.model, sorted(set(self.levels)), self.image_size)

    @torch.no_grad()
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixel_values: (B, 3, image_size, image_size), float, normalized; or uint8, after
                :meth:`accept_bytes`.

        Returns:
            X_v, (B, N, N, D), a view with the channels last.

        Raises:
            InputError: They are uint8, and it has not been told how to normalize them.
        """
        if pixel_values.dtype == torch.uint8:
            if self._scale is None:
                raise InputError(
                    "pixel_values are uint8, and the vision tower does not know mean and std",
                    "Call accept_bytes() of the tower first, or give what the processor's pixels() gives.",
                )
            pixel_values = self._scale(pixel_values)
        weight = next(self.trunk.parameters())
        pixels = pixel_values.to(weight.dtype, memory_format=torch.channels_last)
        trunk = self._folded.on(pixels) if self._folded else self.trunk
        parts = pixels.split(_AT_ONCE if pixels.is_cpu else max(1, len(pixels)))
        stages = [torch.cat(stage) for stage in zip(*map(trunk, parts), strict=True)]
        by_level = dict(zip(sorted(set(self.levels)), stages, strict=True))
        maps = [by_level[level] for level in self.levels]
        if self.normalize:
            maps = [_normalize_channels(level) for level in maps]
        size = maps[0].shape[-2:]
        resized = [
            level
            if level.shape[-2:] == size
            else F.interpolate(level, size=size, mode="bilinear", align_corners=False)
            for level in maps
        ]
        return torch.cat(resized, dim=1).permute(0, 2, 3, 1)

    def train(self, mode: bool = True) -> VisionTower:
        """Stay in evaluation mode: the running statistics of the trunk are part of its weights."""
        return super().train(False)

    def accept_bytes(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """From now on take uint8 pictures too, and normalize them on their device.

        Args:
            mean: The processor's ``image_mean``.
            std: Its ``image_std``.
        """
        self._scale = PixelScale(mean, std)

    def fold(self) -> None:
        """From now on compute with a folded copy; the weights that are saved stay as they are.

        For training, where the weights no longer change.
        """
        if has_batch_norms(self.trunk):
            self._folded = FoldedTrunk(self.trunk, self.image_size)

    def restore_buffers(self) -> None:
        """Recompute what a trunk derives from its shape and stores in no checkpoint.

        transformers builds a model without memory, fills in the weights, and leaves such tables
        (of relative positions, for example) as they come.
        """
        stored = self.trunk.state_dict().keys()
        derived = {name: b for name, b in self.trunk.named_buffers() if name not in stored}
        if derived:
            fresh = dict(self._build_trunk().named_buffers())
            for name, buffer in derived.items():
                buffer.copy_(fresh[name])

    def align(self) -> None:
        """Copy the weights to memory of their own, in place.

        What safetensors maps from a file lies at any address, and some CPUs' convolutions round
        differently there: a checkpoint would not give the bits of the model that was saved.
        """
        with torch.no_grad():
            for parameter in self.trunk.parameters():
                parameter.data = parameter.data.clone()


def _normalize_channels(level: Tensor) -> Tensor:
    return F.layer_norm(level.permute(0, 2, 3, 1), level.shape[1:2]).permute(0, 3, 1, 2)


def grid_shape(tower: VisionTower) -> tuple[int, int, int]:
    """Height, width and channels of X_v for the tower's image size, found by one small run.

    Raises:
        ConfigError: The tower yields no feature map.
    """
    parameter = next(tower.trunk.parameters())
    probe = torch.zeros(1, 3, tower.image_size, tower.image_size, device=parameter.device)
    try:
        _, height, width, channels = tower(probe).shape
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"vision tower {tower.model.name!r} gives no feature map at levels {list(tower.levels)} "
            f"from {tower.image_size} pixels: {error}",
            "Choose levels and an image size that it has.",
        ) from error
    return height, width, channels
