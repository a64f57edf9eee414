"""Options that several commands share, so that they are named and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Context

from biod2c_cli import completion
from biod2c_cli.console import note
from biod2c_core.errors import InputError

# How every Typer app here is set up: plain help (fast, greppable), our own error lines.
PLAIN: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


def say_hub_is_asked(ctx: Context, model: str | None) -> str | None:
    """Say at once, before anything large is imported, that a name is looked for on the hub."""
    from biod2c_core.model.checkpoints.downloads import is_hub_name

    if model is not None and not ctx.resilient_parsing and is_hub_name(model):
        note(f"no folder {model} here; asking the hub")
    return model


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Checkpoint folder or hub name; without it the embedded biod2c-tiny.",
        autocompletion=completion.models,
        callback=say_hub_is_asked,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:1, mps.",
        metavar="DEVICE",
        autocompletion=completion.devices,
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(
        "--image-root", help="Folder of the images; by default the folder of the records."
    ),
]


def numbers(text: str | None, option: str) -> list[int] | None:
    """Read an option such as ``1,3``; None stays None.

    Raises:
        InputError: It is not a list of whole numbers.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not a list of numbers", "Write 1,3.") from error


def pair(text: str | None, option: str) -> tuple[float, float] | None:
    """Read an option such as ``40,400``; None stays None.

    Raises:
        InputError: It is not two numbers.
    """
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not two numbers", "Write 40,400.") from error
    return first, second
