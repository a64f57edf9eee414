"""A checkpoint without adapters, in the number format that is asked for, with its card."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from biod2c_core.atomic import atomic_folder, atomic_open
from biod2c_core.errors import ConfigError
from biod2c_core.model.beyond import attributes
from biod2c_core.model.checkpoints.card import CardFacts, model_card
from biod2c_core.model.checkpoints.folder import load_model, load_processor, locate, save_checkpoint

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def export(
    checkpoint: str | None,
    output: Path,
    facts: CardFacts,
    dtype: str = "float32",
) -> Path:
    """Fold the LoRA adapters into the weights they adapt, and write the result.

    Args:
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        output: A new folder.
        facts: What the card says beyond the files.
        dtype: Number format of the weights.

    Returns:
        The folder.

    Raises:
        InputError: The output exists.
        ConfigError: The number format is unknown.
        CheckpointError: The checkpoint is missing or damaged.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"the number format is {dtype!r}", f"Use one of: {', '.join(DTYPES)}.")
    source = locate(checkpoint)
    with atomic_folder(output) as partial:
        model, processor = load_model(source), load_processor(source)
        model.merge_lora()  # in float32: rounding comes last
        model.to(DTYPES[dtype])  # type: ignore[arg-type]  # transformers' wrapper hides the type
        save_checkpoint(partial, model, processor)
        if (source / attributes.FILE).exists():
            shutil.copy(source / attributes.FILE, partial)
        with atomic_open(partial / "README.md") as file:
            file.write(model_card(partial, output.name, facts, trained_as=source))
    return output
