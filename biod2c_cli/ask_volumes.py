"""``biod2c ask --slices``: about slices of volumes and about each whole, a row each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from biod2c_cli.console import note, progress
from biod2c_core.errors import BioD2CError, ImageError

if TYPE_CHECKING:
    from biod2c_cli.ask_output import Output
    from biod2c_core.inference.image_choice import ImageChoice
    from biod2c_core.inference.questions import Question, Reply
    from biod2c_core.inference.volumes.ask import Slice
    from biod2c_core.inference.volumes.slices import Slices
    from biod2c_core.inference.vqa_model import VQAModel


def check_readable(picture: ImageChoice, slices: Slices | None) -> None:
    """Refuse a picture that cannot be read, or a volume without those slices.

    Raises:
        InputError: It is one.
    """
    from biod2c_core.inference.volumes.ask import open_slices

    if slices is None:
        picture.load()
        return
    with open_slices(picture, slices) as (found, _):
        found[0].load()


def ask_volumes(
    model: VQAModel,
    volumes: Sequence[ImageChoice],
    slices: Slices,
    questions: Sequence[Question],
    written: Output,
) -> None:
    """Ask about one volume after another, a slice at a time in memory.

    Args:
        model: The loaded model.
        volumes: From :func:`biod2c_core.inference.pictures.find_pictures`.
        slices: Which ones.
        questions: At least one.
        written: Where the answers go.

    Raises:
        PartialResultError: A slice could not be read, or a question was not answered.
    """
    from biod2c_core.inference.volumes.ask import open_slices

    pictures = asked = 0
    for volume in volumes:
        try:
            with open_slices(volume, slices) as (found, remarks):
                for line in remarks:
                    note(f"note: {line}.")
                pictures += len(found)
                asked += _ask_volume(model, volume.path, found, questions, written)
        except ImageError as error:
            if len(volumes) == 1:
                raise
            pictures, written.failed = pictures + 1, written.failed + 1
            note(f"error: {error}")
    written.finish(pictures, asked)


def _ask_volume(
    model: VQAModel,
    path: str,
    slices: Sequence[Slice],
    questions: Sequence[Question],
    written: Output,
) -> int:
    """Ask about one volume; how many answers there are now, those of an earlier run included."""
    from biod2c_core.inference.volumes.ask import Whole, ask_slices

    file, failed = written.file, 0

    def known(slice_: Slice, question: Question) -> Reply | None:
        return None if file is None else file.reply(path, question, slice_.index)

    open_ = sum(known(each, question) is None for each in slices for question in questions)
    whole_of = {(question.text, question.id): question for question in questions}
    with progress(f"Asking {path}", open_) as advance:
        for found in ask_slices(model, slices, questions, written.options, known):
            if isinstance(found, BioD2CError):
                failed += 1
                note(f"error: {found}")
                advance(len(questions))
            elif isinstance(found.reply, Whole):
                question = whole_of[found.reply.reply.question, found.reply.reply.id]
                if file is None or file.lacks(path, question):
                    written.add_whole(path, found.reply)
            else:
                written.add(path, found.reply, found.index)
                advance()
            if file is None:
                sys.stdout.flush()
    written.failed += failed
    if failed:
        note(
            f"note: nothing is said of the whole of {path}, as {failed} of {len(slices)} slices could not "
            "be read; leave them out with --slices."
        )
        return (len(slices) - failed) * len(questions)
    return (len(slices) + 1) * len(questions)
