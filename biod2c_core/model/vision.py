"""Vision towers: any timm or open_clip model that yields a feature map, cut where the paper cuts it.

The tower of the paper is PMC-CLIP's modified ResNet-50 without its last stage and attention pool
(stride 16): 512 x 512 pixels give X_v of 32 x 32 x 1024.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.errors import ConfigError


class VisionTower(nn.Module):
    """A frozen image encoder that gives the grid X_v.

    It is always in evaluation mode (BatchNorm uses its stored statistics in both stages), and it
    never takes part in a gradient.

    Args:
        library: ``timm`` or ``open_clip``.
        name: The model's name in that library.
        levels: Which stages of the pyramid to use, counted from 0; several are resampled to the
            first one's grid and concatenated along the channels.
        image_size: Height and width of the input in pixels.
        normalize: Layer-normalise each level over its channels (without weights), so that levels of
            different magnitude can be concatenated.

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
    ) -> None:
        super().__init__()
        if library not in _BUILDERS:
            raise ConfigError(
                f"unknown vision library {library!r}", f"Use one of: {', '.join(_BUILDERS)}."
            )
        if not levels or min(levels) < 0:
            raise ConfigError(
                f"vision levels are {list(levels)}", "Give one or more stages, counted from 0."
            )
        self.library = library
        self.name = name
        self.levels = tuple(levels)
        self.normalize = normalize
        self.image_size = image_size
        self.trunk = self._build_trunk()
        self.requires_grad_(False)
        self.eval()

    def _build_trunk(self) -> nn.Module:
        return _BUILDERS[self.library](self.name, self.levels, self.image_size)

    def restore_buffers(self) -> None:
        """Compute anew what a trunk derives from its shape and stores in no checkpoint.

        transformers builds a model without memory, fills in the weights, and leaves such tables
        (of relative positions, for example) as they come.
        """
        stored = self.trunk.state_dict().keys()
        derived = {name: b for name, b in self.trunk.named_buffers() if name not in stored}
        if derived:
            fresh = dict(self._build_trunk().named_buffers())
            for name, buffer in derived.items():
                buffer.copy_(fresh[name])

    def train(self, mode: bool = True) -> VisionTower:
        """Stay in evaluation mode: the running statistics of the trunk are part of its weights."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixel_values: (B, 3, image_size, image_size), float, normalised.

        Returns:
            X_v, (B, N, N, D), a view with the channels last.
        """
        parameter = next(self.trunk.parameters())
        pixels = pixel_values.to(parameter.dtype, memory_format=torch.channels_last)
        maps = self.trunk(pixels)
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
            f"vision tower {tower.name!r} gives no feature map at levels {list(tower.levels)} "
            f"from {tower.image_size} pixels: {error}",
            "Choose levels and an image size that it has.",
        ) from error
    return height, width, channels


class _TimmTrunk(nn.Module):
    """A timm model reduced to the stages that are used."""

    def __init__(self, name: str, levels: tuple[int, ...], image_size: int) -> None:
        super().__init__()
        import timm

        if not timm.models.is_model(name):
            raise ConfigError(f"timm has no model {name!r}", "See timm.list_models().")
        options: dict[str, Any] = {
            "pretrained": False,
            "features_only": True,
            "out_indices": levels,
        }
        try:
            try:
                self.model = timm.create_model(name, img_size=image_size, **options)
            except TypeError:  # convolutional models take any size and have no such argument
                self.model = timm.create_model(name, **options)
        except (RuntimeError, AttributeError, IndexError, AssertionError, ValueError) as error:
            raise ConfigError(
                f"timm model {name!r} gives no feature map at levels {list(levels)}: {error}",
                "Choose a model that supports features_only, and levels that it has.",
            ) from error
        self.channels: list[int] = self.model.feature_info.channels()  # type: ignore[operator, union-attr]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, h, w) for each level."""
        return [
            level if level.shape[1] == width else level.permute(0, 3, 1, 2)  # some give BHWC
            for level, width in zip(self.model(pixels), self.channels, strict=True)
        ]


class _OpenClipTrunk(nn.Module):
    """The visual half of an open_clip model, cut after the last stage that is used."""

    def __init__(self, name: str, levels: tuple[int, ...], image_size: int) -> None:
        super().__init__()
        import open_clip

        if open_clip.get_model_config(name) is None:
            raise ConfigError(f"open_clip has no model {name!r}", "See open_clip.list_models().")
        silenced = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it warns that weights are random: ours follow
        try:
            model = open_clip.create_model(name, pretrained=None, force_image_size=image_size)
        finally:
            logging.getLogger().setLevel(silenced)
        self.model = model.visual
        self.levels = levels
        if not hasattr(self.model, "forward_intermediates"):
            raise ConfigError(f"open_clip model {name!r} gives no feature map", "Choose another.")
        if hasattr(
            self.model, "attnpool"
        ):  # the modified ResNet: stage s is level s, the stem level 0
            self.model.attnpool = nn.Identity()
            for stage in range(max(levels) + 1, 5):
                setattr(self.model, f"layer{stage}", nn.Identity())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, h, w) for each level."""
        result = self.model.forward_intermediates(
            pixels, indices=list(self.levels), stop_early=True, intermediates_only=True
        )
        return list(result["image_intermediates"])


_BUILDERS = {"timm": _TimmTrunk, "open_clip": _OpenClipTrunk}
