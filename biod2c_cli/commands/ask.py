"""``biod2c ask``: one question about one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit, emit_json
from biod2c_cli.options import AsJson, Device, Model


def ask(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image file (PNG, JPEG, TIFF ...).")
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question in English.")],
    model: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer a question about an image. The answer goes to stdout, nothing else does.

    Research software, no medical device: do not use its answers for diagnosis.
    """
    from biod2c_core.inference.ask import ask as answer

    reply = answer(image, question, model, device)
    if as_json:
        emit_json(reply.__dict__)
    else:
        emit(reply.answer)
