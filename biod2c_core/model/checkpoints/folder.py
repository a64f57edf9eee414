"""Checkpoint folders: safetensors weights, configuration, tokenizer and processor in one place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from biod2c_core.contents import file_checksum
from biod2c_core.errors import BioD2CError, CheckpointError, ConfigError
from biod2c_core.foreign import read_json
from biod2c_core.model.beyond import attributes
from biod2c_core.model.checkpoints.downloads import download, is_hub_name
from biod2c_core.model.checkpoints.limits import check_folder, check_weights, weight_files
from biod2c_core.model.checkpoints.pretrained import NO_CODE, loading
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "biod2c-tiny"
CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja")
_REQUIRED = ("config.json", "processor_config.json", "tokenizer.json")
_DAMAGED = "The files are damaged or incomplete; copy or train it again."


def locate(checkpoint: str | Path | None) -> Path:
    """The local folder of a checkpoint.

    Args:
        checkpoint: A folder; a hub name such as ``owner/model`` (which is downloaded, unless the
            hub is switched off with ``HF_HUB_OFFLINE=1``); or None for the embedded biod2c-tiny, which
            also goes by its name where no folder of that name is there.

    Raises:
        CheckpointError: Nothing usable is there; the missing file is named. Or a configuration asks for
            what no honest checkpoint does, see :func:`~.limits.check_folder`.
    """
    if checkpoint is None or (str(checkpoint) == EMBEDDED.name and not Path(checkpoint).exists()):
        folder = EMBEDDED
    else:
        folder = Path(checkpoint)
        if is_hub_name(str(checkpoint)):
            folder = _download(str(checkpoint))
    if not folder.is_dir():
        raise CheckpointError(
            f"no checkpoint folder at {folder}",
            "Give a folder written by 'biod2c train', or a hub name such as owner/model.",
        )
    for name in _REQUIRED:
        if not (folder / name).is_file():
            inside = folder / "model"  # where a run folder keeps its checkpoint
            is_run = (inside / name).is_file()
            hint = f"Did you mean {inside}?" if is_run else "Is this the folder of a BioD2C model?"
            raise CheckpointError(f"checkpoint {folder} has no {name}", hint)
    if not weight_files(folder):
        raise CheckpointError(
            f"checkpoint {folder} has no weights (*.safetensors)",
            "Other weight formats are not loaded.",
        )
    if checkpoint is not None:
        check_folder(folder)
    return folder


def _download(name: str) -> Path:
    try:
        return download(name, CHECKPOINT_FILES)
    except BioD2CError as error:  # the name may as well be a mistyped folder
        raise CheckpointError(
            f"no folder {name!r} here, and {error.problem}", error.remedy
        ) from error


def fingerprint(folder: Path) -> str:
    """A short hash that tells checkpoints apart: all bytes of configuration, attributes and weights.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    if (folder / attributes.FILE).exists():
        digest.update(f"{attributes.FILE} {file_checksum(folder / attributes.FILE)}".encode())
    for path in weight_files(folder):
        digest.update(f"{path.name} {file_checksum(path)}".encode())
    return digest.hexdigest()[:16]


def load_model_config(folder: Path) -> BioD2CConfig:
    """The configuration of a checkpoint folder.

    Raises:
        CheckpointError: It is damaged or describes another model; its gaps would be filled with the
            paper's model of seven billion.
    """
    path = folder / "config.json"
    try:
        content = read_json(path)
        fits = content["model_type"] == BioD2CConfig.model_type and content["text_config"]
    except (OSError, ValueError, TypeError, KeyError):
        fits = None
    if not fits:
        raise CheckpointError(
            f"{path} does not describe a BioD2C model, so the checkpoint cannot be loaded",
            "It is damaged, or of another model; copy it again.",
        )
    with loading(f"{path} cannot be loaded", _DAMAGED):
        config: BioD2CConfig = BioD2CConfig.from_pretrained(folder)
        check_weights(config.text_config, folder)
    return config


class _TrainedInFloat32(BioD2CForConditionalGeneration):
    """Loads in float32 what training changes, whatever the type of the frozen language model."""

    _keep_in_fp32_modules_strict: Any = frozenset(("vision", "fusion", "lora_A", "lora_B"))


def load_model_to_train(
    folder: Path, language_dtype: torch.dtype
) -> BioD2CForConditionalGeneration:
    """:func:`load_model` with the language model's own weights in another type than all others.

    Args:
        folder: Of the checkpoint.
        language_dtype: In which they are read, once; fusion, adapters and trunk are in float32.
    """
    model = load_model(folder, language_dtype, kind=_TrainedInFloat32)
    model.__class__ = BioD2CForConditionalGeneration  # under whose name it is saved
    return model


def load_model(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    kind: type[BioD2CForConditionalGeneration] = BioD2CForConditionalGeneration,
) -> BioD2CForConditionalGeneration:
    """Load the weights of a checkpoint folder; every tensor must be there and none may be left over.

    Raises:
        CheckpointError: The files are damaged or do not fit the configuration.
    """
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with loading(f"checkpoint {folder} cannot be loaded", _DAMAGED):
            config = load_model_config(folder)
            loaded: Any = kind.from_pretrained(
                folder, config=config, dtype=dtype, output_loading_info=True, **NO_CODE
            )
            model, report = loaded
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    missing = sorted(report["missing_keys"])
    unexpected = sorted(report["unexpected_keys"])
    if missing or unexpected or report["mismatched_keys"]:
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json: "
            f"{len(missing)} missing {missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}, "
            f"{len(report['mismatched_keys'])} of another shape",
            "Keep config.json and the weights of one checkpoint together.",
        )
    return model.to(device).eval()


def load_processor(folder: Path) -> BioD2CProcessor:
    """Load tokenizer and image settings of a checkpoint folder.

    Raises:
        CheckpointError: They are damaged.
    """
    problem = f"the processor in {folder} cannot be loaded"
    with loading(problem, _DAMAGED):
        try:
            processor: BioD2CProcessor = BioD2CProcessor.from_pretrained(folder, **NO_CODE)
        except ConfigError as error:  # of the processor itself: here it is the file's fault
            raise CheckpointError(f"{problem} ({error})", _DAMAGED) from error
    return processor


def save_checkpoint(
    folder: Path,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write model and processor so that :func:`load_model` and :func:`load_processor` find them.

    Args:
        folder: Where to.
        model: The model.
        processor: Its processor.
        weights: All weights by name, where an engine of training has spread those of ``model``.
    """
    model.save_pretrained(folder, state_dict=weights)
    processor.save_pretrained(folder)
