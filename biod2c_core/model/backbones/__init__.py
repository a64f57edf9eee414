"""Vision towers and language models of other libraries; the registry of the vision libraries."""

from __future__ import annotations

from biod2c_core.errors import ConfigError, did_you_mean
from biod2c_core.model.backbones.open_clip_library import OpenClipLibrary
from biod2c_core.model.backbones.timm_library import TimmLibrary
from biod2c_core.model.backbones.vision_library import VisionLibrary

_VISION_LIBRARIES: dict[str, VisionLibrary] = {}


def register_vision_library(library: VisionLibrary) -> None:
    """Let ``model.vision.library`` name it.

    Args:
        library: Under its ``name``.

    Raises:
        ConfigError: The name is taken by another class.
    """
    known = _VISION_LIBRARIES.setdefault(library.name, library)
    if type(known) is not type(library):
        raise ConfigError(
            f"{type(library).__name__} calls itself {library.name!r}, which is "
            f"{type(known).__name__}'s name",
            "Give it another name.",
        )


def get_vision_library(name: str) -> VisionLibrary:
    """The library of that name.

    Raises:
        ConfigError: There is none; the known names are listed.
    """
    if name not in _VISION_LIBRARIES:
        known = f"Use one of: {', '.join(_VISION_LIBRARIES)}."
        hint = did_you_mean(name, _VISION_LIBRARIES)
        raise ConfigError(f"unknown vision library {name!r}", f"{hint} {known}".lstrip())
    return _VISION_LIBRARIES[name]


register_vision_library(TimmLibrary())
register_vision_library(OpenClipLibrary())
