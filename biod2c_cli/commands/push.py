"""``biod2c push``: a checkpoint to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit
from biod2c_cli.model_card_options import DataLicenses, License, Results, card_facts


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Checkpoint (RUN/model).")],
    name: Annotated[str, typer.Argument(metavar="OWNER/MODEL", help="Its name on the hub.")],
    license: License = "",
    data_license: DataLicenses = None,
    result: Results = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a new repository.")
    ] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch.")] = None,
    card_only: Annotated[
        bool, typer.Option("--card-only", help="Print the model card and upload nothing.")
    ] = False,
) -> None:
    """Upload a checkpoint with a generated model card, as you are logged in with 'hf auth login'."""
    facts = card_facts(license, data_license, result)
    if card_only:
        from biod2c_core.model.checkpoints.card import model_card
        from biod2c_core.model.checkpoints.folder import locate

        emit(model_card(locate(folder), name, facts))
        return
    from biod2c_core.model.checkpoints.hub import push as run

    emit(run(folder, name, facts, public=public, revision=revision))
