"""The vision halves of open_clip's models as vision towers, PMC-CLIP's ResNet-50 among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.foreign import read_json
from biod2c_core.model.backbones.vision_library import (
    Pretraining,
    VisionLibrary,
    VisionModel,
    hub_folder,
)

_HUB_CONFIG = "open_clip_config.json"


class OpenClipLibrary(VisionLibrary):
    """open_clip's models by name, and those in its folder format, on the hub or on the disk."""

    name = "open_clip"

    def find(self, name: str) -> VisionModel:
        """See :meth:`VisionLibrary.find`; folders bring definition, preprocessing and weights.

        Raises:
            ConfigError: open_clip has no model of that name.
            CheckpointError: The folder does not exist, or defines no vision tower.
            InputError, EndpointError: As :func:`.vision_library.hub_folder`.
        """
        folder = hub_folder(name)
        if folder:
            definition, preprocessing = _read_definition(folder)
            pretraining = _pretraining(definition, preprocessing)
            return VisionModel(name, definition, pretraining, f"local-dir:{folder}")
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(name)
        preprocessing = open_clip.get_pretrained_cfg(name, tags[0]) if tags else {}
        return VisionModel(name, pretraining=_pretraining(_known_definition(name), preprocessing))

    def strides(self, model: VisionModel, image_size: int) -> list[int]:
        """See :meth:`VisionLibrary.strides`."""
        with torch.device("meta"):
            visual: Any = build_open_clip(model.name, image_size, model.definition)
        if hasattr(visual, "attnpool") and hasattr(visual, "layer4"):
            return [4, 4, 8, 16, 32]  # the modified ResNet: its stem and four stages
        if hasattr(visual, "trunk"):  # a timm model inside open_clip
            return [level["reduction"] for level in visual.trunk.feature_info]
        if isinstance(getattr(visual, "transformer", None), nn.Module):
            return [visual.patch_size[0]] * len(visual.transformer.resblocks)
        raise _no_feature_map(model.name)

    def build_trunk(self, model: VisionModel, levels: Sequence[int], image_size: int) -> nn.Module:
        """See :meth:`VisionLibrary.build_trunk`."""
        return _Trunk(model, levels, image_size)

    def uncut_names(self, model: VisionModel, image_size: int) -> set[str]:
        """See :meth:`VisionLibrary.uncut_names`."""
        with torch.device("meta"):
            visual = build_open_clip(model.name, image_size, model.definition)
        return set(visual.state_dict())


class _Trunk(nn.Module):
    def __init__(self, model: VisionModel, levels: Sequence[int], image_size: int) -> None:
        super().__init__()
        self.model: Any = build_open_clip(model.name, image_size, model.definition)
        self.levels = list(levels)
        if not hasattr(self.model, "forward_intermediates"):
            raise _no_feature_map(model.name)
        if hasattr(self.model, "attnpool"):  # the modified ResNet: level 0 is its stem
            self.model.attnpool = nn.Identity()
            for stage in range(max(levels) + 1, 5):
                setattr(self.model, f"layer{stage}", nn.Identity())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, h, w) a level."""
        result = self.model.forward_intermediates(
            pixels, indices=self.levels, stop_early=True, intermediates_only=True
        )
        return list(result["image_intermediates"])


def build_open_clip(
    name: str, image_size: int, definition: Mapping[str, Any] | None = None
) -> nn.Module:
    """The vision half of an open_clip model, uncut, with random weights; its text half is left out.

    Args:
        name: Its name in open_clip; what messages call it where ``definition`` is given.
        image_size: Side of the square input, pixels.
        definition: ``embed_dim``, ``vision_cfg`` and ``quick_gelu`` of a model that open_clip does not
            know by name.

    Raises:
        ConfigError: open_clip has no such model, or cannot build it.
    """
    import open_clip

    known = definition or _known_definition(name)
    vision = {**known["vision_cfg"], "image_size": image_size, "timm_model_pretrained": False}
    _check_inner_model(name, vision.get("timm_model_name"))
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


def _check_inner_model(name: str, inner: Any) -> None:
    """A model of timm inside open_clip must be one by name: timm would fetch hf-hub:... from the hub."""
    import timm

    if inner and not (isinstance(inner, str) and timm.models.is_model(inner)):
        raise ConfigError(
            f"open_clip cannot build {name!r}: timm has no model {inner!r}",
            "See timm.list_models().",
        )


def _known_definition(name: str) -> dict[str, Any]:
    """What open_clip builds the model of that name from."""
    import open_clip

    # get_model_config would go to the hub for hf-hub:..., which a stranger's checkpoint may name
    definition = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if definition is None:
        raise ConfigError(
            f"open_clip has no model {name!r}",
            "See open_clip.list_models(), or give hf-hub:OWNER/MODEL or local-dir:FOLDER.",
        )
    return definition


def _read_definition(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Definition and preprocessing of a model in open_clip's folder format."""
    path = folder / _HUB_CONFIG
    try:
        content = read_json(path)
        model = content.get("model_cfg", content)
        definition = {
            "embed_dim": model["embed_dim"],
            "vision_cfg": dict(model["vision_cfg"]),
            "quick_gelu": bool(model.get("quick_gelu", False)),
        }
        return definition, dict(content.get("preprocess_cfg") or {})
    except OSError as error:
        raise CheckpointError(
            f"{folder} has no {_HUB_CONFIG}", "It is not the folder of an open_clip model."
        ) from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path} defines no vision tower ({error!r})", "It is damaged; copy it again."
        ) from error


def _pretraining(definition: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> Pretraining:
    """What open_clip says, and where it says nothing, OpenAI's statistics as in open_clip itself."""
    import open_clip

    size = definition["vision_cfg"].get("image_size", 224)
    return Pretraining(
        size if isinstance(size, int) else size[0],
        tuple(preprocessing.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        tuple(preprocessing.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def _no_feature_map(name: str) -> ConfigError:
    return ConfigError(f"open_clip model {name!r} gives no feature map", "Choose another.")
