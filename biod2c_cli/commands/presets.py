"""``biod2c presets``: the settings that come with the package, and a check of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from biod2c_cli import completion
from biod2c_cli.console import emit, emit_json
from biod2c_cli.options import PLAIN, AsJson
from biod2c_cli.sub_commands import SubCommands

app = typer.Typer(help="List, show and check presets of 'biod2c train'.", **PLAIN, cls=SubCommands)

Preset = Annotated[
    str, typer.Argument(help="Preset name or a YAML file.", autocompletion=completion.presets)
]


@app.command("list")
def list_presets(as_json: AsJson = False) -> None:
    """Name the presets, each with the first line of its file."""
    from biod2c_core.config import PRESETS, preset_names

    lines = {
        name: (PRESETS / f"{name}.yaml").read_text("utf-8").splitlines()[0].lstrip("# ")
        for name in preset_names()
    }
    if as_json:
        emit_json(lines)
        return
    width = max(map(len, lines))
    for name, line in lines.items():
        emit(f"{name:{width}}  {line}")


@app.command("show")
def show(preset: Preset) -> None:
    """Print a preset with every key, as YAML that --preset reads."""
    from biod2c_core.config import dump_config, load_config

    emit(dump_config(load_config(preset)).rstrip())


@app.command("validate")
def validate(
    presets: Annotated[
        list[str], typer.Argument(help="Names or YAML files.", autocompletion=completion.presets)
    ],
) -> None:
    """Check presets: every key known, every value in range."""
    from biod2c_core.config import load_config

    for preset in presets:
        load_config(preset)
        emit(f"{preset}: valid")
