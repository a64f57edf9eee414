"""Tensors from files of any origin, read without running what a pickle may hold."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from biod2c_core.errors import CheckpointError
from biod2c_core.model.checkpoints.limits import check_index

_SHOWN = 5  # names of an error message
_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "checkpoint.pt",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)


def read_tensors(source: Path) -> dict[str, Tensor]:
    """All tensors of a weight file, or of the weight files of a folder.

    Args:
        source: A safetensors file, a pickle of ``torch.save`` (of a state dict, or of a dict that
            holds one as ``state_dict``), an index of shards, or a folder with one of these.

    Returns:
        Tensors by name, on the CPU; the prefix ``module.`` of data-parallel training is dropped.

    Raises:
        CheckpointError: Nothing usable is there, or it holds code.
    """
    path = _find(source)
    if path.name.endswith(".index.json"):
        tensors = _read_shards(path)
    elif path.suffix == ".safetensors" or _looks_like_safetensors(path):
        tensors = _read_safetensors(path)
    else:
        tensors = _state_dict(_read_pickle(path), path)
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _find(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise CheckpointError(f"nothing at {source}", "Give a weight file or its folder.")
    for name in _NAMES:
        if (source / name).is_file():
            return source / name
    raise CheckpointError(
        f"{source} holds no weights", f"Expected one of: {', '.join(_NAMES)}; or name the file."
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    names = check_index(index, (".safetensors", ".bin", ".pt", ".pth"))
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= read_tensors(index.parent / name)
    return tensors


def _looks_like_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # the length of a header, and the JSON that it is


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error})", "It is damaged, or of another format."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        mapped = zipfile.is_zipfile(path)  # only the newer format can stay on the disk
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|function ([\w.]+)", str(error))
        if "Weights only load failed" in str(error) and found:
            raise CheckpointError(
                f"{path} is a pickle with code in it ({found[1] or found[2]}), and is not opened",
                "Only tensors are read from a pickle; get a safetensors file.",
            ) from error
        raise CheckpointError(
            f"{path} is not a weight file that can be read safely",
            "Give safetensors, or a .pt file.",
        ) from error
    except Exception as error:  # the restricted unpickler raises any kind on damaged files
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be read ({reason})", "It is damaged.") from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name", "Give a state dict.")
    return tensors


def check_fit(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str, remedy: str
) -> None:
    """Refuse weights whose names or shapes differ from the model's.

    Args:
        given: The weights.
        wanted: The model's ``state_dict()``; of its tensors only the shapes count.
        what: What is given, for the message.
        remedy: What to do about it.

    Raises:
        CheckpointError: Missing, unexpected or mis-shaped tensors, named.
    """
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("size mismatch", shapes))
    faults = [f"{kind} {_listed(names)}" for kind, names in found if names]
    if faults:
        raise CheckpointError(f"{what} do not fit: {'; '.join(faults)}", remedy)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return f"[{', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}] ({len(names)})"
