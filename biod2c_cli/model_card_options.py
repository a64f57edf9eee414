"""Options of the commands that write a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from biod2c_core.errors import InputError

License = Annotated[
    str, typer.Option("--license", help="SPDX name of the licence of the weights.", metavar="SPDX")
]
DataLicenses = Annotated[
    list[str] | None,
    typer.Option(
        "--data-license", help="DATA=LICENCE of a training set; may be repeated.", metavar="D=L"
    ),
]
Results = Annotated[
    list[Path] | None,
    typer.Option("--result", help="A result.json of 'biod2c evaluate'; may be repeated."),
]


def card_facts(license: str, data_licenses: list[str] | None, results: list[Path] | None) -> Any:
    """The options as :class:`biod2c_core.model.checkpoints.card.CardFacts`.

    Raises:
        InputError: A data licence is not an assignment.
    """
    from biod2c_core.model.checkpoints.card import CardFacts

    pairs = {}
    for text in data_licenses or []:
        name, equals, licence = text.partition("=")
        if not (name and equals and licence):
            raise InputError(
                f"--data-license {text!r} is not an assignment", "Write VQA-RAD=CC0-1.0."
            )
        pairs[name] = licence
    return CardFacts(license, pairs, results or [])
