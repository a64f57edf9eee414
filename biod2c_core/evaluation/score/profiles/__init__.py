"""Named scoring conventions, one file each."""

from __future__ import annotations

from importlib import import_module

from biod2c_core.errors import InputError
from biod2c_core.evaluation.score.profiles.base import Metric, Profile

DEFAULT_PROFILE = "multimedeval"
_MODULES = {
    "multimedeval": "multimedeval",
    "llava-med": "llava_med",
    "pmc-vqa": "pmc_vqa",
    "exact": "exact",
}
PROFILE_NAMES = tuple(_MODULES)


def get_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        InputError: There is none; the known names are listed.
    """
    if name not in _MODULES:
        raise InputError(f"unknown profile {name!r}", f"Known: {', '.join(_MODULES)}.")
    module = import_module(f"biod2c_core.evaluation.score.profiles.{_MODULES[name]}")
    profile: Profile = module.PROFILE
    return profile


__all__ = ["DEFAULT_PROFILE", "PROFILE_NAMES", "Metric", "Profile", "get_profile"]
