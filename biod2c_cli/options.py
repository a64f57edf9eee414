"""Options that several commands share, so that they are named and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

# How every Typer app here is set up: plain help (fast, greppable), our own error lines.
PLAIN: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Checkpoint folder or hub name; without it the embedded biod2c-tiny."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.", metavar="DEVICE")
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(
        "--image-root", help="Folder of the images; by default the folder of the records."
    ),
]
