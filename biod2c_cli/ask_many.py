"""``biod2c ask`` about many pictures: which argument is what, and each picture encoded once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biod2c_cli.ask_output import Output
from biod2c_cli.console import note, progress
from biod2c_core.errors import InputError

if TYPE_CHECKING:
    from biod2c_core.inference.image_choice import ImageChoice
    from biod2c_core.inference.questions import AskOptions, Question
    from biod2c_core.inference.volumes.slices import Slices
    from biod2c_core.inference.vqa_model import VQAModel


def is_picture(argument: str) -> bool:
    """Whether an argument names a picture or a folder: it is there, or is spelled like one."""
    from biod2c_core.data.images import IMAGE_SUFFIXES
    from biod2c_core.inference.image_choice import STDIN, is_there

    spelled = argument == STDIN or argument.lower().endswith(IMAGE_SUFFIXES)
    return spelled or is_there(argument)


def sort_arguments(
    first: str, rest: Sequence[str], asked_by_option: bool
) -> tuple[list[str], list[str]]:
    """Tell pictures from questions.

    Args:
        first: The first argument, a picture.
        rest: Further pictures; behind them questions, of which several pictures take one.
        asked_by_option: Whether ``--question`` is given; then all arguments are pictures.

    Returns:
        Pictures and questions.

    Raises:
        InputError: They are swapped, or it is not clear which is which.
    """
    pictures = [argument for argument in rest if is_picture(argument)]
    if pictures and not is_picture(first):
        raise InputError(
            f"{first!r} is not a file, and {pictures[0]!r} is one",
            "Pictures come first, the question last: biod2c ask IMAGE... QUESTION.",
        )
    if not is_picture(first):
        raise InputError(
            f"{first!r} is not a file, so there is no picture to ask about",
            "Give the picture first, then the question: biod2c ask IMAGE... QUESTION.",
        )
    questions = [argument for argument in rest if not is_picture(argument)]
    if asked_by_option:
        if questions:
            raise InputError(
                f"{questions[0]!r} is not a file",
                "Beside --question all arguments are images; put each question behind a --question.",
            )
        return [first, *pictures], []
    if not pictures:
        return [first], questions
    if len(questions) > 1:
        listed = ", ".join(map(repr, questions[:3]))
        raise InputError(
            f"{len(questions)} arguments are not files ({listed}), beside {len(pictures) + 1} that are",
            "Ask with --question, once for each question; check the names of the pictures.",
        )
    if questions and rest[-1] != questions[0]:
        raise InputError(
            f"the question {questions[0]!r} stands between pictures",
            "Put it last, or behind --question.",
        )
    return [first, *pictures], questions


def ask_many(
    pictures: Sequence[ImageChoice],
    questions: Sequence[Question],
    options: AskOptions,
    model: str | None,
    device: str,
    kind: str,
    output: Path | None,
    warning: str,
    slices: Slices | None = None,
) -> None:
    """Ask every question about every picture, or about slices of every volume.

    Args:
        pictures: From :func:`biod2c_core.inference.pictures.find_pictures`.
        questions: At least one.
        options: How to answer.
        model: A checkpoint, or None for the embedded model.
        device: ``auto``, ``cpu``, ``cuda`` ...
        kind: ``table``, ``json`` or ``csv``, for stdout.
        output: A file that a second run completes, instead of stdout.
        warning: Said once, on stderr.
        slices: Which ones of volumes, and then about the whole too; None for pictures.

    Raises:
        InputError: Something given cannot be used.
        PartialResultError: A picture could not be read, or a question was not answered.
    """
    from biod2c_cli.ask_volumes import ask_volumes, check_readable
    from biod2c_core.inference.answer_rows import AnswerFile, check_answer_path

    if output is not None:
        check_answer_path(output)
    if len(pictures) == 1:  # one bad picture alone: said before a model is loaded
        check_readable(pictures[0], slices)

    from biod2c_core.collector import imports_for_good
    from biod2c_core.inference.questions import about_picture

    with imports_for_good():
        from biod2c_core.inference.vqa_model import VQAModel

    loaded = VQAModel.load(model, device)
    note(warning)
    if loaded.answerer.reference is None:
        note(f"note: {about_picture(loaded.answerer.name, None)[0]}.")
    with ExitStack() as stack:
        file = None
        if output is not None:
            manifest = _manifest(loaded, options, pictures[0])
            manifest["slices"] = None if slices is None else slices.text
            volumes = slices is not None
            file = stack.enter_context(AnswerFile(output, manifest, options.n_best, volumes))
        written = Output(options, kind, file, slices is not None)
        if slices is not None:
            ask_volumes(loaded, pictures, slices, questions, written)
        else:
            _ask_all(loaded, pictures, questions, written)
            written.finish(len(pictures), (len(pictures) - written.failed) * len(questions))


def _manifest(model: VQAModel, options: AskOptions, choice: ImageChoice) -> dict[str, Any]:
    return {
        "model": model.answerer.name,
        "identity": model.answerer.identity,
        "calibrated": model.calibration is not None,
        "familiarity": model.answerer.reference is not None,
        **vars(options),
        "frame": choice.frame,
        "axis": choice.axis,
        "slice": choice.slice_index,
        "window": choice.window,
    }


def _ask_all(
    model: VQAModel, pictures: Sequence[ImageChoice], questions: Sequence[Question], written: Output
) -> None:
    from biod2c_core.errors import BioD2CError
    from biod2c_core.inference.pictures import ask_pictures

    def is_open(picture: ImageChoice, question: Question) -> bool:
        return written.file is None or written.file.lacks(picture.path, question)

    total = sum(is_open(each, question) for each in pictures for question in questions)
    with progress("Asking", total) as advance:
        for picture, reply in ask_pictures(model, pictures, questions, written.options, is_open):
            if isinstance(reply, BioD2CError):
                written.failed += 1
                note(f"error: {reply}")
                advance(len(questions))
                continue
            written.add(picture.path, reply)
            advance()
            if written.file is None:
                sys.stdout.flush()
