"""What the shell completes beyond commands and options; nothing here loads torch."""

from __future__ import annotations

from collections.abc import Iterable

DEVICES = ("auto", "cpu", "cuda", "mps")
SPLITS = ("train", "validation", "test", "all")


def presets(incomplete: str) -> list[str]:
    """Names of presets."""
    from biod2c_core.config import preset_names

    return _that_begin(preset_names(), incomplete)


def profiles(incomplete: str) -> list[str]:
    """Names of the profiles of ``evaluate``."""
    from biod2c_core.evaluation.score.profiles import ALL, profile_names

    return _that_begin([*profile_names(), ALL], incomplete)


def data_sets(incomplete: str) -> list[str]:
    """Names of published data sets, and files."""
    from biod2c_core.data.formats import FORMATS

    return _that_begin(FORMATS, incomplete) + files(incomplete)


def formats(incomplete: str) -> list[str]:
    """Names of data formats."""
    from biod2c_core.data.formats import FORMATS

    return _that_begin(FORMATS, incomplete)


def devices(incomplete: str) -> list[str]:
    """Kinds of devices."""
    return _that_begin(DEVICES, incomplete)


def splits(incomplete: str) -> list[str]:
    """Splits of a data set."""
    return _that_begin(SPLITS, incomplete)


def models(incomplete: str) -> list[str]:
    """The embedded model, and folders."""
    return _that_begin(["biod2c-tiny"], incomplete) + files(incomplete)


def files(incomplete: str) -> list[str]:
    """Files and folders that begin so."""
    from glob import escape, glob

    return sorted(glob(escape(incomplete) + "*"))  # noqa: PTH207 (a prefix, not a folder)


def _that_begin(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
