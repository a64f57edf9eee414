"""``biod2c convert``: foreign weights into a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit, emit_json, note
from biod2c_cli.options import AsJson


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="The authors' model.safetensors or PMC-CLIP's checkpoint.pt, or its folder.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    language_model: Annotated[
        str,
        typer.Option(
            "--language-model",
            help="Folder (or hub name) of the language model: for the authors' weights its config.json "
            "and tokenizer, for PMC-CLIP the whole model to combine it with.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Convert the authors' weights, or PMC-CLIP's, into a folder that the other commands load.

    Pickles are opened for their tensors only; what is unused in SOURCE is listed.
    """
    from biod2c_core.model.checkpoints.convert import convert as run

    result = run(source, output, language_model)
    if as_json:
        emit_json(result.__dict__)
        return
    note(f"{result.tensors} tensors taken over, {len(result.unused)} unused in {source}:")
    for group, count in result.unused_groups().items():
        note(f"  {group} ({count})")
    if result.note:
        note(result.note)
    emit(str(result.folder))
