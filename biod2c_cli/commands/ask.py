"""``biod2c ask``: questions about one image, once or in a chat, or about many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biod2c_cli.console import emit, emit_json, note, one_line
from biod2c_cli.options import AsJson, Device, Model
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
from biod2c_core.errors import InputError, PartialResultError

if TYPE_CHECKING:
    from biod2c_core.inference.image_choice import ImageChoice
    from biod2c_core.inference.questions import AskOptions, Question

DISCLAIMER = "note: research software, no medical device: do not use its answers for diagnosis."


def ask(
    image: ImageFile,
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE]... [QUESTION]...",
            help="More images, or folders of them; then questions in English (several images take "
            "one here, more with --question).",
        ),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", help="A question; repeatable. All arguments are images."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--questions", help='JSONL file, {"question": ..., "id": ...} a line.'),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask line by line; /help lists what else can be said.")
    ] = False,
    n_best: Annotated[int, typer.Option(help="List so many answers with their confidence.")] = 1,
    min_confidence: Annotated[
        float, typer.Option(help="Give no answer below this confidence (exit code 3).")
    ] = 0.0,
    attn: Annotated[
        Path | None, typer.Option(help="Write a picture of where the model looked.")
    ] = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
    slices: SliceRange = None,
    window: Window = None,
    model: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the answers to this .jsonl or .csv; a second run asks what is missing.",
        ),
    ] = None,
) -> None:
    """Answer questions about an image, or about many, or about slices of a volume.

    About one image the answers go to stdout, a line each, and nothing else does; about several, a
    folder, or --slices, a table does.

    Research software, no medical device: do not use its answers for diagnosis.
    """
    from biod2c_cli.ask_many import ask_many, sort_arguments
    from biod2c_core.inference import questions as asking
    from biod2c_core.inference.image_choice import STDIN
    from biod2c_core.inference.pictures import find_pictures

    if as_json and as_csv:
        raise InputError("both --json and --csv are given", "Give one of them.")
    which = choose_slices(slices, slice_)
    names, texts = sort_arguments(image, rest or [], bool(question))
    chosen = [choose_image(name, frame, axis, slice_, window) for name in names]
    options = asking.AskOptions(n_best, min_confidence)
    found = find_pictures(chosen, volumes=which is not None)
    many = found != chosen or len(found) > 1 or as_csv or output is not None or which is not None
    if chat:
        if texts or question or file or attn or many or image == STDIN:
            raise InputError(
                "--chat reads its questions from stdin",
                "Give --chat an image file and no questions.",
            )
        from biod2c_cli.chat import run_chat

        return run_chat(chosen[0], model, device, options, as_json, DISCLAIMER)
    asked = asking.gather_questions([*texts, *(question or [])], file)
    if not many:
        return _ask_one(chosen[0], asked, options, model, device, attn, as_json)
    if attn is not None:
        raise InputError("--attn draws one image", "Give one, or run 'biod2c attn-map' for each.")
    if STDIN in names:
        raise InputError(
            "an image from stdin stands alone", "Give files for several, --csv or --output."
        )
    kind = "json" if as_json else "csv" if as_csv else "table"
    return ask_many(found, asked, options, model, device, kind, output, DISCLAIMER, which)


def _ask_one(
    chosen: ImageChoice,
    asked: list[Question],
    options: AskOptions,
    model: str | None,
    device: str,
    attn: Path | None,
    as_json: bool,
) -> None:
    """The answers alone, a line each."""
    from biod2c_core.inference.ask import ask as answers
    from biod2c_core.inference.questions import about_picture, script_warning

    silent = 0
    for index, reply in enumerate(answers(chosen, asked, options, model, device, attn)):
        if index == 0:
            note(DISCLAIMER)
            for line in about_picture(reply.model, reply.familiarity):
                note(f"note: {line}.")
        silent += reply.abstained
        if reply.unknown_script:
            note(f"note: {script_warning(reply.model, reply.question)}.")
        if as_json:
            emit_json(reply.to_row())
        elif reply.candidates and not reply.abstained:
            if index:
                emit("")  # the candidates of each question stand together
            for text, confidence in reply.candidates:
                emit(f"{confidence:.4f}\t{one_line(text)}")
        else:
            emit(one_line(reply.answer or ""))
    if silent:
        raise PartialResultError(
            f"{silent} of {len(asked)} questions not answered: confidence below "
            f"{options.min_confidence}"
        )
