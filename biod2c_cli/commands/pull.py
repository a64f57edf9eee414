"""``biod2c pull``: a checkpoint from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit


def pull(
    name: Annotated[str, typer.Argument(metavar="OWNER/MODEL", help="Its name on the hub.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit.")
    ] = None,
) -> None:
    """Download a checkpoint into a folder; no file that could hold code is taken."""
    from biod2c_core.model.checkpoints.hub import pull as run

    emit(str(run(name, output, revision)))
