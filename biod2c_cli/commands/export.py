"""``biod2c export``: a checkpoint without adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit
from biod2c_cli.model_card_options import DataLicenses, License, Results, card_facts


def export(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Checkpoint; without it the embedded biod2c-tiny."),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, float16 or bfloat16.", metavar="TYPE")
    ] = "float32",
    license: License = "",
    data_license: DataLicenses = None,
    result: Results = None,
) -> None:
    """Fold the LoRA adapters into the language model and write a checkpoint with a model card."""
    from biod2c_core.model.checkpoints.export import export as run

    emit(str(run(model, output, card_facts(license, data_license, result), dtype)))
