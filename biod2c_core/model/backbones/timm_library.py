"""timm's models as vision towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biod2c_core.errors import ConfigError
from biod2c_core.model.backbones.vision_library import (
    Pretraining,
    VisionLibrary,
    VisionModel,
    is_hub_folder,
)

# What timm raises where a model has no feature maps, or not these levels.
_NO_FEATURES = (RuntimeError, AttributeError, IndexError, AssertionError, ValueError)


class TimmLibrary(VisionLibrary):
    """Every timm model that supports ``features_only``."""

    name = "timm"

    def find(self, name: str) -> VisionModel:
        """See :meth:`VisionLibrary.find`; hub names and folders are refused."""
        if is_hub_folder(name):
            raise ConfigError(
                f"{name!r} is given for the vision library {self.name!r}",
                "Hub names and folders are open_clip's; set model.vision.library=open_clip.",
            )
        import timm

        _check_name(name)
        known = timm.get_pretrained_cfg(name)
        if known is None:
            return VisionModel(name)
        pretraining = Pretraining(known.input_size[-1], tuple(known.mean), tuple(known.std))
        return VisionModel(name, pretraining=pretraining)

    def strides(self, model: VisionModel, image_size: int) -> list[int]:
        """See :meth:`VisionLibrary.strides`."""
        import timm

        try:
            with torch.device("meta"):
                features = timm.create_model(model.name, pretrained=False, features_only=True)
            info: Any = features.feature_info
        except _NO_FEATURES as error:
            raise ConfigError(
                f"timm model {model.name!r} gives no feature map: {error}",
                "Choose a model that supports features_only.",
            ) from error
        levels = range(max(info.out_indices) + 1)
        return [level["reduction"] for level in info.get_dicts(["reduction"], list(levels))]

    def build_trunk(self, model: VisionModel, levels: Sequence[int], image_size: int) -> nn.Module:
        """See :meth:`VisionLibrary.build_trunk`."""
        return _Trunk(model.name, tuple(levels), image_size)

    def uncut_names(self, model: VisionModel, image_size: int) -> set[str]:
        """See :meth:`VisionLibrary.uncut_names`."""
        import timm

        with torch.device("meta"):
            return set(timm.create_model(model.name, pretrained=False).state_dict())

    def plain_name(self, name: str) -> str:
        """See :meth:`VisionLibrary.plain_name`; trunks write ``stages_0`` for ``stages.0``."""
        return super().plain_name(name).replace(".", "_")


class _Trunk(nn.Module):
    def __init__(self, name: str, levels: tuple[int, ...], image_size: int) -> None:
        super().__init__()
        import timm

        _check_name(name)
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
        except _NO_FEATURES as error:
            raise ConfigError(
                f"timm model {name!r} gives no feature map at levels {list(levels)}: {error}",
                "Choose a model that supports features_only, and levels that it has.",
            ) from error

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, h, w) a level."""
        return [
            level if level.shape[1] == width else level.permute(0, 3, 1, 2)  # some give BHWC
            for level, width in zip(self.model(pixels), self.channels, strict=True)
        ]


def _check_name(name: str) -> None:
    import timm

    if not timm.models.is_model(name):
        raise ConfigError(f"timm has no model {name!r}", "See timm.list_models().")
