"""``biod2c export``: a checkpoint without adapters, or a folder that answers in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit, progress
from biod2c_cli.model_card_options import DataLicenses, License, Results, card_facts
from biod2c_core.errors import InputError


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
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write ONNX and a page instead, which answers in a browser."),
    ] = False,
) -> None:
    """Write a checkpoint without LoRA adapters, and its model card; or ONNX, and a page that runs it."""
    if onnx:
        if dtype != "float32" or license or data_license or result:
            raise InputError(
                "--onnx goes with --model alone",
                "It writes no model card, and computes in float32: leave out the other options.",
            )
        emit(str(_export_onnx(model, output)))
        return
    from biod2c_core.model.checkpoints.export import export as run

    emit(str(run(model, output, card_facts(license, data_license, result), dtype)))


def _export_onnx(model: str | None, output: Path) -> Path:
    from biod2c_core.inference.browser.export import export_onnx

    with progress("parts", total=3) as advance:
        return export_onnx(model, output, advance)
