"""``biod2c ask``: questions about one image, once or in a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit, emit_json, note, one_line
from biod2c_cli.options import AsJson, Device, Model
from biod2c_cli.picture_options import Axis, Frame, ImageFile, Slice, Window, choose_image
from biod2c_core.errors import InputError, PartialResultError

DISCLAIMER = "note: research software, no medical device: do not use its answers for diagnosis."


def ask(
    image: ImageFile,
    questions: Annotated[
        list[str] | None, typer.Argument(metavar="[QUESTION]...", help="Questions in English.")
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
    window: Window = None,
    model: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer questions about an image. The answers go to stdout, a line each; nothing else does.

    Research software, no medical device: do not use its answers for diagnosis.
    """
    from biod2c_core.inference import ask as asking
    from biod2c_core.inference.image_choice import STDIN
    from biod2c_core.inference.questions import AskOptions, gather_questions

    chosen = choose_image(image, frame, axis, slice_, window)
    options = AskOptions(n_best, min_confidence)
    if chat:
        from biod2c_cli.chat import run_chat

        if questions or file or attn or image == STDIN:
            raise InputError(
                "--chat reads its questions from stdin",
                "Give --chat an image file and no questions.",
            )
        return run_chat(asking.open_session(chosen, model, device), options, as_json, DISCLAIMER)
    asked = gather_questions(questions or [], file)
    silent = 0
    for index, reply in enumerate(asking.ask(chosen, asked, options, model, device, attn)):
        if index == 0:
            note(DISCLAIMER)
        silent += reply.abstained
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
            f"{silent} of {len(asked)} questions not answered: confidence below {min_confidence}"
        )
    return None
