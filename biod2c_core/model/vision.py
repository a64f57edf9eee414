"""Vision towers: any timm or open_clip model that yields a feature map, cut where the paper cuts it.

The tower of the paper is PMC-CLIP's modified ResNet-50 without its last stage and attention pool
(stride 16): 512 x 512 pixels give X_v of 32 x 32 x 1024.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.model.backbones.folding import fold_batch_norms
from biod2c_core.model.checkpoints.downloads import download

_AT_ONCE = 4  # images that a CPU's caches hold: the trunk takes a third less time than for eight


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
        definition: The model's configuration in open_clip's form (``embed_dim``, ``vision_cfg`` ...),
            for a model that open_clip does not know by name.

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
        if library not in _LIBRARIES:
            raise ConfigError(
                f"unknown vision library {library!r}", f"Use one of: {', '.join(_LIBRARIES)}."
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
        self.definition = definition
        self.trunk = self._build_trunk()
        self._folded: list[nn.Module] = []
        self.requires_grad_(False)
        self.eval()

    def _build_trunk(self) -> nn.Module:
        stages = tuple(sorted(self.levels))  # the libraries give them in this order only
        if self.library == "timm":
            return _TimmTrunk(self.name, stages, self.image_size)
        return _OpenClipTrunk(self.name, stages, self.image_size, self.definition)

    def uncut_names(self) -> set[str]:
        """Names of the tensors of the model that the trunk was cut from."""
        if self.library == "timm":
            import timm

            with torch.device("meta"):
                return set(timm.create_model(self.name, pretrained=False).state_dict())
        with torch.device("meta"):
            visual = build_open_clip(self.name, self.image_size, self.definition)
        return set(visual.state_dict())

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

    def fold(self) -> None:
        """From now on compute with a folded copy; the weights that are saved stay as they are.

        For training, where the weights no longer change. The copy is no submodule.
        """
        if not any(isinstance(module, nn.BatchNorm2d) for module in self.trunk.modules()):
            return
        parameter = next(self.trunk.parameters())
        shape = (1, 3, self.image_size, self.image_size)
        probe = torch.rand(shape, device=parameter.device, dtype=parameter.dtype)
        self._folded = [fold_batch_norms(self.trunk, probe)]

    def _trunk_for(self, pixels: Tensor) -> nn.Module:
        """The trunk, or its copy in the type and on the device that it is to compute with."""
        if not self._folded:
            return self.trunk
        kind = pixels.device.type
        mixed = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if mixed else pixels.dtype
        parameter = next(self._folded[0].parameters())
        if (parameter.device, parameter.dtype) != (pixels.device, dtype):
            self._folded[0].to(pixels.device, dtype)
        return self._folded[0]

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
        trunk = self._trunk_for(pixels)
        parts = [
            trunk(part) for part in pixels.split(_AT_ONCE if pixels.is_cpu else max(1, len(pixels)))
        ]
        stages = [torch.cat(stage) for stage in zip(*parts, strict=True)]
        maps = [stages[sorted(self.levels).index(level)] for level in self.levels]
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
            self.channels: list[int] = self.model.feature_info.channels()  # type: ignore[operator, union-attr]
        except (RuntimeError, AttributeError, IndexError, AssertionError, ValueError) as error:
            raise ConfigError(
                f"timm model {name!r} gives no feature map at levels {list(levels)}: {error}",
                "Choose a model that supports features_only, and levels that it has.",
            ) from error

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, h, w) for each level."""
        return [
            level if level.shape[1] == width else level.permute(0, 3, 1, 2)  # some give BHWC
            for level, width in zip(self.model(pixels), self.channels, strict=True)
        ]


class _OpenClipTrunk(nn.Module):
    """The visual half of an open_clip model, cut after the last stage that is used."""

    def __init__(
        self,
        name: str,
        levels: tuple[int, ...],
        image_size: int,
        definition: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = build_open_clip(name, image_size, definition)
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


def build_open_clip(name: str, image_size: int, definition: dict[str, Any] | None) -> nn.Module:
    """The vision tower of an open_clip model, uncut, with random weights; its text tower is left out.

    Args:
        name: Its name in open_clip; what messages call it where ``definition`` is given.
        image_size: Side of the square input.
        definition: See :class:`VisionTower`.

    Raises:
        ConfigError: open_clip has no such model, or cannot build it.
    """
    import open_clip

    known = definition or open_clip.get_model_config(name)
    if known is None:
        raise ConfigError(
            f"open_clip has no model {name!r}",
            "See open_clip.list_models(), or give hf-hub:OWNER/MODEL or local-dir:FOLDER.",
        )
    vision = {**known["vision_cfg"], "image_size": image_size, "timm_model_pretrained": False}
    small = open_clip.CLIPTextCfg(context_length=1, vocab_size=1, width=8, heads=1, layers=1)
    try:
        model = open_clip.CLIP(
            known["embed_dim"],
            open_clip.CLIPVisionCfg(**vision),
            small,
            quick_gelu=known.get("quick_gelu", False),
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"open_clip cannot build {name!r} ({error})", "Check it.") from error
    return model.visual


def hub_folder(name: str) -> Path | None:
    """The local folder behind ``local-dir:FOLDER`` or ``hf-hub:OWNER/MODEL``, else None.

    Raises:
        CheckpointError: The folder does not exist.
        InputError, EndpointError: As :func:`.downloads.download`.
    """
    scheme, colon, place = name.partition(":")
    if not colon or scheme not in ("local-dir", "hf-hub"):
        return None
    if scheme == "local-dir":
        if not Path(place).is_dir():
            raise CheckpointError(f"no folder at {place}", f"Check the path behind {scheme}:.")
        return Path(place)
    return download(place, ("*.json", "*.safetensors", "*.bin"))


_LIBRARIES = ("timm", "open_clip")
