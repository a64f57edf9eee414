"""Named scoring conventions, one file each, and the registry that more can be added to."""

from __future__ import annotations

from importlib import import_module

from biod2c_core.errors import InputError
from biod2c_core.evaluation.score.profiles.base import JudgeRule, Metric, Profile

DEFAULT_PROFILE = "multimedeval"
ALL = "all"
_MODULES = {
    "multimedeval": "open_ended.multimedeval",
    "llava-med": "open_ended.llava_med",
    "pmc-vqa": "open_ended.pmc_vqa",
    "exact": "open_ended.exact",
    "llava-med-2023": "open_ended.llava_med_2023",
    "medevalkit": "open_ended.medevalkit",
    "medevalkit-slake": "open_ended.medevalkit_slake",
    "lmms-slake": "open_ended.lmms_slake",
    "vqa-med": "open_ended.vqa_med",
    "medvlmbench": "open_ended.medvlmbench",
    "biomedgpt": "open_ended.biomedgpt",
    "vila-m3": "open_ended.vila_m3",
    "medgemma-reading": "open_ended.medgemma_reading",
    "medevalkit-mcq": "choice.medevalkit_mcq",
    "mmmu": "choice.mmmu",
    "vlmevalkit-mcq": "choice.vlmevalkit_mcq",
    "huatuo-choice": "choice.huatuo_choice",
    "omnimedvqa": "choice.omnimedvqa",
    "medvlthinker": "choice.medvlthinker",
    "med-r1": "choice.med_r1",
    "pmc-vqa-td": "choice.pmc_vqa_td",
    "pmc-vqa-te": "choice.pmc_vqa_te",
    "probmed": "probmed",
    "medevalkit-judge": "judged.medevalkit_judge",
    "vlmevalkit-judge": "judged.vlmevalkit_judge",
}
_ADDED: dict[str, Profile] = {}


def profile_names() -> tuple[str, ...]:
    """The names of all profiles: those shipped, then those added."""
    return (*_MODULES, *_ADDED)


def is_ours(profile: Profile) -> bool:
    """Whether a profile is shipped with the package."""
    return profile.name in _MODULES


def register_profile(profile: Profile) -> None:
    """Add a convention from outside the package, for ``--profile`` and ``all``.

    Args:
        profile: Its name must be new, and no two of its columns and totals may share a key.

    Raises:
        InputError: The name is taken, or a key occurs twice.
    """
    if profile.name in (ALL, *profile_names()):
        raise InputError(f"there is a profile {profile.name!r} already", "Choose another name.")
    keys = [metric.key for metric in (*profile.metrics, *profile.total_metrics)]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise InputError(
            f"profile {profile.name!r} has the column {min(repeated)!r} twice", "Rename one."
        )
    _ADDED[profile.name] = profile


def get_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        InputError: There is none; the known names are listed.
    """
    if name in _ADDED:
        return _ADDED[name]
    if name not in _MODULES:
        raise InputError(f"unknown profile {name!r}", f"Known: {', '.join(profile_names())}.")
    module = import_module(f"biod2c_core.evaluation.score.profiles.{_MODULES[name]}")
    profile: Profile = module.PROFILE
    return profile


def rule_profiles() -> list[Profile]:
    """All profiles that need no language model, in order."""
    return [profile for name in profile_names() if (profile := get_profile(name)).judge is None]


__all__ = [
    "ALL",
    "DEFAULT_PROFILE",
    "JudgeRule",
    "Metric",
    "Profile",
    "get_profile",
    "profile_names",
    "register_profile",
    "rule_profiles",
]
