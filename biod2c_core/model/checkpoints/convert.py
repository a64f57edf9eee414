"""Foreign weights into a checkpoint folder that asking, evaluation and training load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import GenerationConfig

from biod2c_core.atomic import atomic_folder
from biod2c_core.config import dump_config, load_config
from biod2c_core.errors import CheckpointError
from biod2c_core.model.backbones.defaults import resolve_tower
from biod2c_core.model.backbones.trunk_weights import is_clip, load_trunk
from biod2c_core.model.build import build_model
from biod2c_core.model.checkpoints import released
from biod2c_core.model.checkpoints.folder import save_checkpoint
from biod2c_core.model.checkpoints.pretrained import (
    loading,
    pretrained_config,
    pretrained_tokenizer,
)
from biod2c_core.model.checkpoints.tensor_files import check_fit, read_tensors
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.model.vision import VisionTower

TRUNK_FILE = "trunk.safetensors"
PRESET_FILE = "preset.yaml"
_SHARD = "4GB"


@dataclass(frozen=True)
class Conversion:
    """What a conversion gave.

    Attributes:
        folder: The folder that was written.
        kind: ``released`` (the authors' file) or ``clip`` (a vision tower's checkpoint).
        tensors: How many tensors were taken over.
        unused: Names in the source that the model has no use for.
        note: What the folder still lacks, or an empty string.
    """

    folder: Path
    kind: str
    tensors: int
    unused: tuple[str, ...]
    note: str

    def unused_groups(self) -> dict[str, int]:
        """The unused names, counted by their first two parts."""
        return dict(Counter(".".join(name.split(".")[:2]) for name in self.unused))


def convert(source: Path, output: Path, language_model: str = "", seed: int = 0) -> Conversion:
    """Convert the authors' weights, or a CLIP checkpoint's vision tower.

    Args:
        source: A weight file or its folder.
        output: The folder to write; it must not exist, or be empty.
        language_model: For the authors' weights the folder with ``config.json`` and tokenizer of the
            language model in them, by default ``llama`` beside the weights or their own folder. For a
            CLIP checkpoint the language model to build a new BioD2C with.
        seed: Of the fusion weights that a CLIP checkpoint lacks.

    Raises:
        InputError: The output exists.
        CheckpointError: The source is unusable, or does not fit.
    """
    with atomic_folder(output) as partial:
        tensors = read_tensors(source)
        if released.is_released(tensors):
            make = _convert_released
        elif is_clip(tensors):
            make = _convert_clip
        else:
            names = ", ".join(sorted({name.split(".")[0] for name in tensors})[:8])
            raise CheckpointError(
                f"{source} is neither the authors' model nor a CLIP checkpoint (its tensors begin "
                f"with: {names})",
                "Checkpoints of this project need no conversion.",
            )
        return make(tensors, source, partial, output, language_model, seed)


def _convert_released(
    tensors: Mapping[str, Tensor],
    source: Path,
    partial: Path,
    output: Path,
    language_model: str,
    seed: int,
) -> Conversion:
    text_config, place = _text_config(source, language_model)
    config = released.configuration(tensors, text_config)
    renamed, unused = released.rename(tensors)
    with torch.device("meta"):
        model = BioD2CForConditionalGeneration(config)
    wanted = model.state_dict()
    tied = getattr(model.language_model, "all_tied_weights_keys", {})
    for name in tied:
        if f"language_model.{name}" not in renamed:
            wanted.pop(f"language_model.{name}", None)
    check_fit(
        renamed,
        wanted,
        f"the weights in {source}",
        "Give the complete published model.safetensors.",
    )
    save_torch_state_dict(renamed, partial, max_shard_size=_SHARD)
    config.architectures = [type(model).__name__]
    config.dtype = renamed["fusion.queries"].dtype
    config.save_pretrained(partial)
    GenerationConfig(
        bos_token_id=text_config.bos_token_id,
        eos_token_id=text_config.eos_token_id,
        pad_token_id=text_config.pad_token_id,
    ).save_pretrained(partial)
    note = _save_processor(config, place, partial)
    return Conversion(output, "released", len(renamed), tuple(unused), note)


def _text_config(source: Path, language_model: str) -> tuple[Any, str]:
    """The language model's configuration and where it lies."""
    folder = source if source.is_dir() else source.parent
    places = [language_model] if language_model else [str(folder / "llama"), str(folder)]
    for place in places:
        if language_model or (Path(place) / "config.json").is_file():
            with loading(
                f"no language model's configuration at {place}",
                "Give the folder with its config.json and tokenizer by --language-model.",
            ):
                return pretrained_config(place), place
    raise CheckpointError(
        f"no config.json of the language model in {' or '.join(places)}",
        "Give the folder with its config.json and tokenizer by --language-model.",
    )


def _save_processor(config: Any, place: str, folder: Path) -> str:
    """Write the processor, if there is a tokenizer; otherwise say what is missing."""
    try:
        with loading("", ""):
            tokenizer = pretrained_tokenizer(place)
    except CheckpointError:
        return (
            f"{place} holds no tokenizer, so the folder cannot answer text yet: convert again with "
            "--language-model FOLDER of config.json and tokenizer"
        )
    ends = config.text_config.eos_token_id
    BioD2CProcessor(
        tokenizer,
        image_size=released.IMAGE_SIZE,
        max_question_tokens=config.num_visual_tokens,
        fusion_reads="prompt",
        end_token_id=ends[0] if isinstance(ends, list) else ends,
    ).save_pretrained(folder)
    return ""


def _convert_clip(
    tensors: Mapping[str, Tensor],
    source: Path,
    partial: Path,
    output: Path,
    language_model: str,
    seed: int,
) -> Conversion:
    preset = load_config("paper")
    vision = preset.model.vision
    tower = VisionTower(**resolve_tower(vision).arguments)
    unused = tuple(load_trunk(tower, source))
    taken = len(tensors) - len(unused)
    if language_model:
        settings = replace(
            preset.model,
            vision=replace(vision, weights=str(source)),
            language_model=language_model,
        )
        save_checkpoint(partial, *build_model(settings, seed))
        note = "its fusion module is untrained: go on with 'biod2c train --stage 1 -m FOLDER'"
        return Conversion(output, "clip", taken, unused, note)
    save_torch_state_dict(
        tower.trunk.state_dict(), partial, filename_pattern=TRUNK_FILE.replace(".", "{suffix}.")
    )
    trunk = str((output / TRUNK_FILE).resolve())
    settings = replace(preset.model, vision=replace(vision, weights=trunk))
    (partial / PRESET_FILE).write_text(dump_config(replace(preset, model=settings)), "utf-8")
    note = (
        f"a vision tower alone: train with --preset {output / PRESET_FILE} "
        "--set model.language_model=FOLDER, or convert again with --language-model"
    )
    return Conversion(output, "clip", taken, unused, note)
