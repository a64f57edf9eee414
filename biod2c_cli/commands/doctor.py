"""``biod2c doctor``: what is installed, what the machine has, and what will run where."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from biod2c_cli.console import emit, emit_json
from biod2c_cli.options import AsJson

_VARIABLES = (
    *("BIOD2C_CACHE", "BIOD2C_DATA", "BIOD2C_LOAD_IN", "CUDA_VISIBLE_DEVICES", "HF_HOME"),
    *("HF_HUB_OFFLINE", "OMP_NUM_THREADS"),
)


def doctor(as_json: AsJson = False) -> None:
    """Print versions, extras, devices, threads, cache folders, and what will run where.

    Put it into a report of a fault. It reaches for no network, and prints no key.
    """
    found = {
        "versions": _versions(),
        "extras": _extras(),
        "machine": _machine(),
        "folders": _folders(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "runs": _runs(),
    }
    if as_json:
        emit_json(found)
        return
    for title, rows in found.items():
        if not rows:
            continue
        emit(title)
        width = max(map(len, rows))
        for name, value in rows.items():
            emit(f"  {name:{width}}  {value}")


def _names(requirements: list[str]) -> list[str]:
    """``timm>=1.0.15; extra == "x"`` -> ``timm``; those of the package itself are left out."""
    from packaging.requirements import Requirement

    names = [Requirement(each).name for each in requirements]
    return [name for name in names if name != "biod2c"]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    from biod2c_core import __version__

    found = {"biod2c": __version__, "python": platform.python_version()}
    needed = [each for each in metadata.requires("biod2c") or [] if "extra ==" not in each]
    return found | {name: _installed(name) or "missing" for name in _names(needed)}


def _extras() -> dict[str, str]:
    """Of each extra, whether it is installed, or what it lacks."""
    needed = metadata.requires("biod2c") or []
    found = {}
    for extra in metadata.metadata("biod2c").get_all("Provides-Extra") or []:
        names = _names([each for each in needed if f'extra == "{extra}"' in each])
        missing = [name for name in names if _installed(name) is None]
        found[extra] = f"lacks {', '.join(missing)}" if missing else "installed"
    return found


def _machine() -> dict[str, str]:
    import torch

    from biod2c_core.workers import usable_cores

    found = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": f"{os.cpu_count()}, {usable_cores()} usable",
        "threads": f"{torch.get_num_threads()} for one operation",
    }
    for index in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{of.name}, {of.total_memory / 2**30:.1f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _folders() -> dict[str, str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from biod2c_core.model.checkpoints.folder import EMBEDDED
    from biod2c_core.training.inputs.feature_cache import default_cache_folder

    return {
        "python": sys.executable,
        "embedded model": str(EMBEDDED),
        "hub models": HF_HUB_CACHE,
        "features in training": str(default_cache_folder()),
    }


def _runs() -> dict[str, Any]:
    """What ``--device auto`` and the defaults of training come to here."""
    from biod2c_core.device import resolve_device
    from biod2c_core.ops.multi_scale_pool.dispatch import TRITON_INSTALLED
    from biod2c_core.training.hardware.precision import computes_in_bf16

    device = resolve_device("auto")
    gpu = device.type == "cuda"
    if computes_in_bf16(on_cpu=not gpu):
        training = "bfloat16 where it is mixed"
    else:
        training = "float32: there are no instructions for bfloat16"
    return {
        "ask, attn-map, serve, evaluate": f"{device}, {'bfloat16' if gpu else 'float32'}",
        "train": f"{device}, {training}",
        "pooling": "Triton" if gpu and TRITON_INSTALLED else "torch",
    }
