"""``biod2c attn-map``: where the model looks for its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit, emit_json, note
from biod2c_cli.options import AsJson, Device, Model, numbers
from biod2c_cli.picture_options import (
    Axis,
    Frame,
    ImageFile,
    Slice,
    SliceRange,
    Window,
    choose_image,
    choose_slices,
)

Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="fusion: the question's cross-attention to the image blocks; language: the language "
        "model's attention to the visual tokens, traced back through the resampler; gradient: "
        "fusion, weighted by its gradient.",
    ),
]


def attn_map(
    image: ImageFile,
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="Questions.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")],
    method: Method = "fusion",
    layers: Annotated[str | None, typer.Option(help="Layers to average: 1,3; else all.")] = None,
    heads: Annotated[str | None, typer.Option(help="Heads to average: 1,2; else all.")] = None,
    scales: Annotated[
        str | None, typer.Option(help="Scales of blocks to keep, 1 the whole image; else all.")
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--without-fusion", help="Show on the left what the model does without fusion."
        ),
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="A panel for each token of the answer.")
    ] = False,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="BOXES",
            help="Draw and score boxes: LEFT,TOP,RIGHT,BOTTOM in pixels, several with ';', or a "
            "JSON file of lists.",
        ),
    ] = None,
    npy: Annotated[
        Path | None, typer.Option(help="Also write the maps, (questions, rows, columns).")
    ] = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
    slices: SliceRange = None,
    window: Window = None,
    model: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show where the model looks: an attention map for each question, on the image.

    Prints each answer, and with boxes their share of the map and whether its maximum falls inside.
    With --slices it draws a contact sheet, the map of each slice of a volume for one question.
    """
    from biod2c_cli.contact_sheet import draw_volume
    from biod2c_core.inference.attention.report import AttentionRequest, make_report
    from biod2c_core.inference.questions import about_picture

    which = choose_slices(slices, slice_)
    request = AttentionRequest(
        questions=questions,
        output=output,
        method=method,
        layers=numbers(layers, "--layers"),
        heads=numbers(heads, "--heads"),
        scales=numbers(scales, "--scales"),
        without_fusion=beside,
        tokens=tokens,
        boxes=boxes,
        npy=npy,
    )
    chosen = choose_image(image, frame, axis, slice_, window)
    if which is not None:
        draw_volume(chosen, which, request, model, device, as_json)
        return
    rows = make_report(chosen, request, model, device)
    for line in about_picture(model or "biod2c-tiny", rows[0].get("familiarity")):
        note(f"note: {line}.")
    for row in rows:
        if as_json:
            emit_json(row)
            continue
        emit(row["answer"])
        for box in row["boxes"]:
            hit = "maximum inside" if box["hit"] else "maximum outside"
            emit(f"  box {box['box']}: mass {box['mass']}, area {box['area']}, {hit}")
