"""``biod2c data shuffle-choices`` and ``export-vlmevalkit``: data for evaluations, here and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli import completion, console
from biod2c_cli.options import AsJson, ImageRoot

Data = Annotated[Path, typer.Argument(metavar="DATA", help="JSONL, or a known data set.")]


def shuffle_choices(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="JSONL to write.")],
    seed: Annotated[int, typer.Option(help="Another seed, other letters.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Put the choices of multiple-choice questions under other letters.

    Questions whose choices speak of each other by place ("all of the above") stay as they are.
    """
    from biod2c_core.evaluation.shuffle_choices import shuffle_data

    done = shuffle_data(data, output, seed)
    if as_json:
        console.emit_json(vars(done) | {"output": output})
        return
    console.emit(f"{done.shuffled:,} questions shuffled, written to {output}")
    if done.kept:
        console.note(f"left as they are, since their choices speak of each other: {done.kept:,}")
    if done.other:
        console.note(f"not multiple choice: {done.other:,}")


def export_vlmevalkit(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="NAME.tsv", help="The table to write.")
    ],
    split: Annotated[
        str,
        typer.Option(help="train, validation, test, or all.", autocompletion=completion.splits),
    ] = "test",
    language: Annotated[str, typer.Option(help="SLAKE: en, zh or all.")] = "en",
    image_root: ImageRoot = None,
    as_json: AsJson = False,
) -> None:
    """Write a split as a table of VLMEvalKit, with the images inside.

    Multiple choice and free answers need a table each.
    """
    from biod2c_core.data.formats import ReadOptions, read_records
    from biod2c_core.data.formats import image_root as default_root
    from biod2c_core.evaluation.vlmevalkit import write_table

    chosen = None if split == "all" else split
    records = read_records(data, split=chosen, options=ReadOptions(language=language))
    with console.progress("questions", len(records)) as advance:
        images = write_table(output, records, image_root or default_root(data), advance)
    if as_json:
        console.emit_json({"output": output, "questions": len(records), "images": images})
        return
    console.emit(f"{len(records):,} questions about {images:,} images written to {output}")
