"""What follows from the choice of a vision tower: its levels, image size, and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biod2c_core.config import VisionConfig
from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.foreign import read_json
from biod2c_core.model.vision import build_open_clip, hub_folder

_STRIDE = 16  # of the paper's tower (section 4.1)
_HUB_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Tower:
    """A vision tower with nothing left open.

    Attributes:
        arguments: Of :class:`~biod2c_core.model.vision.VisionTower`.
        mean: Mean of the RGB channels.
        std: Standard deviation of the RGB channels.
        weights: Where its weights are, or an empty string.
    """

    arguments: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: str


@dataclass(frozen=True)
class _Native:
    """What a tower was pretrained with."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_PAPER = _Native(512, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def resolve_tower(settings: VisionConfig) -> Tower:
    """Fill in what the settings leave to the tower (``auto``).

    The level is the last one whose stride is at most 16, as the paper's (or the last of the finest
    ones); image size, mean and standard deviation are those the tower was pretrained with. A tower
    named ``hf-hub:OWNER/MODEL`` or ``local-dir:FOLDER`` brings its definition and weights.

    Args:
        settings: A preset's vision section.

    Raises:
        ConfigError: There is no such model, or it has no feature map.
        CheckpointError: There is no such folder or hub model, or no definition in it.
    """
    folder = hub_folder(settings.name)
    definition, preprocessing = _read_definition(folder) if folder else (None, {})
    if folder and settings.library != "open_clip":
        raise ConfigError(
            f"{settings.name!r} is given for the vision library {settings.library!r}",
            "Hub names and folders are open_clip's; set model.vision.library=open_clip.",
        )
    open_points = (settings.image_size, settings.mean, settings.std)
    native = _native(settings, definition, preprocessing) if "auto" in open_points else _PAPER
    size = native.image_size if settings.image_size == "auto" else settings.image_size
    levels = settings.levels
    if levels == "auto":
        levels = (_paper_level(_strides(settings, size, definition)),)
    arguments: dict[str, Any] = {
        "library": settings.library,
        "name": settings.name,
        "levels": list(levels),
        "image_size": size,
        "normalize": settings.normalize,
    }
    if definition:
        arguments["definition"] = definition
    return Tower(
        arguments,
        native.mean if settings.mean == "auto" else settings.mean,
        native.std if settings.std == "auto" else settings.std,
        settings.weights or (f"local-dir:{folder}" if folder else ""),
    )


def _read_definition(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Definition and preprocessing of a model in open_clip's folder format."""
    path = folder / _HUB_CONFIG
    try:
        content = read_json(path)
        model = content.get("model_cfg", content)
        definition = {key: model[key] for key in ("embed_dim", "vision_cfg")}
    except OSError as error:
        raise CheckpointError(
            f"{folder} has no {_HUB_CONFIG}", "It is no folder of an open_clip model."
        ) from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path} defines no vision tower ({error!r})", "It is damaged; copy it again."
        ) from error
    definition["quick_gelu"] = bool(model.get("quick_gelu", False))
    return definition, content.get("preprocess_cfg", {})


def _native(
    settings: VisionConfig, definition: Mapping[str, Any] | None, preprocessing: Mapping[str, Any]
) -> _Native:
    if settings.library == "timm":
        import timm

        if not timm.models.is_model(settings.name):
            raise ConfigError(f"timm has no model {settings.name!r}", "See timm.list_models().")
        known = timm.get_pretrained_cfg(settings.name)
        if known is None:
            raise ConfigError(
                f"timm does not say what {settings.name!r} was pretrained with",
                "Give model.vision.image_size, mean and std.",
            )
        return _Native(known.input_size[-1], tuple(known.mean), tuple(known.std))
    import open_clip

    model = definition or open_clip.get_model_config(settings.name)
    if model is None:
        raise ConfigError(
            f"open_clip has no model {settings.name!r}",
            "See open_clip.list_models(), or give hf-hub:OWNER/MODEL or local-dir:FOLDER.",
        )
    tags = open_clip.list_pretrained_tags_by_model(settings.name)
    values = open_clip.get_pretrained_cfg(settings.name, tags[0]) if tags else {}
    values = {**values, **preprocessing}
    size = model["vision_cfg"].get("image_size", 224)
    return _Native(
        size if isinstance(size, int) else size[0],
        tuple(values.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        tuple(values.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def _strides(settings: VisionConfig, size: int, definition: dict[str, Any] | None) -> list[int]:
    """The stride of every level that the tower has."""
    if settings.library == "timm":
        import timm

        try:
            with torch.device("meta"):
                model = timm.create_model(settings.name, pretrained=False, features_only=True)
            info: Any = model.feature_info
        except (RuntimeError, AttributeError, IndexError, AssertionError, ValueError) as error:
            raise ConfigError(
                f"timm model {settings.name!r} gives no feature map: {error}",
                "Choose a model that supports features_only.",
            ) from error
        count = max(info.out_indices) + 1
        strides = info.get_dicts(["reduction"], list(range(count)))
        return [each["reduction"] for each in strides]
    with torch.device("meta"):
        visual: Any = build_open_clip(settings.name, size, definition)
    if hasattr(visual, "attnpool") and hasattr(visual, "layer4"):
        return [4, 4, 8, 16, 32]  # the modified ResNet: its stem and four stages
    return _token_strides(visual, settings.name)


def _token_strides(visual: Any, name: str) -> list[int]:
    if hasattr(visual, "trunk"):  # a timm model inside open_clip
        return [each["reduction"] for each in visual.trunk.feature_info]
    if isinstance(getattr(visual, "transformer", None), nn.Module):
        return [visual.patch_size[0]] * len(visual.transformer.resblocks)
    raise ConfigError(f"open_clip model {name!r} gives no feature map", "Choose another.")


def _paper_level(strides: list[int]) -> int:
    wanted = [level for level, stride in enumerate(strides) if stride <= _STRIDE]
    finest = [level for level, stride in enumerate(strides) if stride == min(strides)]
    return (wanted or finest)[-1]
