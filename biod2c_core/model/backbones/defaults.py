"""What follows from the choice of a vision tower: its levels, image size, and normalization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from biod2c_core.config import VisionConfig
from biod2c_core.errors import ConfigError
from biod2c_core.model.backbones import get_vision_library
from biod2c_core.model.backbones.vision_library import Pretraining

_STRIDE = 16  # of the paper's tower (section 4.1)


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


def resolve_tower(settings: VisionConfig) -> Tower:
    """Fill in what the settings leave to the tower (``auto``).

    The level is the last one whose stride is at most 16, as the paper's (or the last of the finest
    ones); image size, mean and standard deviation are those the tower was pretrained with. A tower
    named ``hf-hub:OWNER/MODEL`` or ``local-dir:FOLDER`` brings its definition and weights.

    Args:
        settings: A preset's vision section.

    Raises:
        ConfigError: There is no such library or model, or it has no feature map.
        CheckpointError: There is no such folder or hub model, or no definition in it.
    """
    library = get_vision_library(settings.library)
    model = library.find(settings.name)
    images = _images(settings, model.pretraining)
    levels = settings.levels
    if levels == "auto":
        levels = (_paper_level(library.strides(model, images.image_size)),)
    arguments: dict[str, Any] = {
        "library": settings.library,
        "name": settings.name,
        "levels": list(levels),
        "image_size": images.image_size,
        "normalize": settings.normalize,
    }
    if model.definition:
        arguments["definition"] = model.definition
    return Tower(arguments, images.mean, images.std, settings.weights or model.weights)


def _images(settings: VisionConfig, own: Pretraining | None) -> Pretraining:
    """What is set, and for the rest what the tower was pretrained with."""
    named = {name: getattr(settings, name) for name in ("image_size", "mean", "std")}
    given = {name: value for name, value in named.items() if value != "auto"}
    if own is not None:
        return replace(own, **given)
    if given != named:
        raise ConfigError(
            f"{settings.library} does not say what {settings.name!r} was pretrained with",
            "Give model.vision.image_size, mean and std.",
        )
    return Pretraining(**given)


def _paper_level(strides: list[int]) -> int:
    wanted = [level for level, stride in enumerate(strides) if stride <= _STRIDE]
    finest = [level for level, stride in enumerate(strides) if stride == min(strides)]
    return (wanted or finest)[-1]
