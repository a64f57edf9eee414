"""Questions about the slices of a volume and about the whole; one slice at a time is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from biod2c_core.data.images import Selection, Stack, open_stack
from biod2c_core.errors import BioD2CError, ImageError, InputError
from biod2c_core.inference.image_choice import STDIN, ImageChoice
from biod2c_core.inference.pictures import Open, ask_pictures
from biod2c_core.inference.questions import (
    AskOptions,
    Question,
    Reply,
    about_pictures,
    is_unlike,
    script_warning,
)
from biod2c_core.inference.volumes.slices import Slices
from biod2c_core.inference.volumes.whole import Share, median_familiarity, ranges, weigh

if TYPE_CHECKING:  # loads torch, which bad input never waits for
    from biod2c_core.inference.vqa_model import VQAModel


@dataclass(frozen=True)
class Slice:
    """One picture of an open volume: ``index`` of the one that is called ``path``."""

    path: str
    index: int
    stack: Stack

    def __str__(self) -> str:
        return f"{self.path} (slice {self.index})"

    def load(self) -> Image.Image:
        """Decode it.

        Raises:
            ImageError: It is damaged; the message says which one it is.
        """
        try:
            return self.stack.load(self.index)
        except ImageError as error:
            raise ImageError(f"slice {self.index}: {error.problem}", error.remedy) from error


@dataclass(frozen=True)
class Whole:
    """What ``biod2c.load().ask_volume`` returns, what the slices say together; as text, the answer.

    Attributes:
        reply: The answer with the most evidence, its evidence as the confidence, never calibrated; the
            slices' median familiarity and all their seconds.
        slices: The reply about each slice by its index, rising.
        spread: Each answer that was given, that of most evidence first; ``places`` are slices.
        remarks: Lines on what is odd about the volume: copies of slices, slices that may be missing.
    """

    reply: Reply
    slices: Mapping[int, Reply]
    spread: tuple[Share, ...]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.reply)

    @property
    def answer(self) -> str | None:
        """The answer with the most evidence; None where there is not enough."""
        return self.reply.answer

    @property
    def confidence(self) -> float:
        """Its evidence, in [0, 1]."""
        return self.reply.confidence

    def warnings(self) -> list[str]:
        """Lines for people: what is odd about the volume, and where the answers mean little."""
        model, question = self.reply.model, self.reply.question
        unlike = [
            f"slice {index}" for index in self.slices if is_unlike(self.slices[index].familiarity)
        ]
        lines = [*self.remarks, *about_pictures(model, unlike, len(self.slices), "slices")]
        return [*lines, script_warning(model, question)] if self.reply.unknown_script else lines

    def to_row(self) -> dict[str, Any]:
        """As a JSON row."""
        spread = [
            {"answer": each.answer, "confidence": each.confidence, "slices": list(each.places)}
            for each in self.spread
        ]
        return {**self.reply.to_row(), "slices": len(self.slices), "spread": spread}

    def spread_text(self) -> str:
        """The spread in a line: ``yes 0.62 (3-5, 9); no 0.1 (0-2)``."""
        said = [f"{s.answer} {s.confidence:g} ({ranges(s.places)})" for s in self.spread]
        return "; ".join(said)


@dataclass(frozen=True)
class SliceReply:
    """An answer and the slice that it is about; without one it is about the whole."""

    reply: Reply | Whole
    index: int | None


@contextmanager
def open_slices(
    choice: ImageChoice, slices: Slices
) -> Iterator[tuple[list[Slice], tuple[str, ...]]]:
    """The chosen slices of a volume, and remarks on it.

    Raises:
        ImageError: It is no volume, damaged, or has no such slices.
        InputError: The picture comes from stdin, or one slice of it is chosen already.
    """
    if choice.slice_index is not None:
        raise InputError(
            f"{choice} is one slice, and slices of a volume are asked for",
            "Leave out the one slice.",
        )
    if choice.path == STDIN:
        raise InputError(
            "a volume is not read from stdin", "Give a file, or the folder of a series."
        )
    chosen = Selection(choice.frame, choice.axis, None, choice.window)
    with open_stack(choice.path, chosen) as stack:
        indexes = slices.of(stack.count, choice.path)
        yield [Slice(choice.path, index, stack) for index in indexes], stack.remarks


def ask_slices(
    model: VQAModel,
    slices: Sequence[Slice],
    questions: Sequence[Question],
    options: AskOptions,
    known: Callable[[Slice, Question], Reply | None] = lambda slice_, question: None,
) -> Iterator[SliceReply | BioD2CError]:
    """Ask each question about each slice and about the whole.

    Args:
        model: The loaded model.
        slices: Of one volume, from :func:`open_slices`.
        questions: At least one.
        options: How to answer; a slice that is not sure enough is no evidence for the whole.
        known: The reply of an earlier run, which is not asked for again nor yielded.

    Yields:
        The slices' replies, or the error that keeps one from being read; then, if all could be, the
        whole's, in the order of the questions.

    Raises:
        InputError: A question is too long for the model.
    """
    found: dict[tuple[int, int], Reply] = {}  # by slice and question, as they lie in their lists
    for place, slice_ in enumerate(slices):
        for number, question in enumerate(questions):
            if (before := known(slice_, question)) is not None:
                found[place, number] = before
    place_of = {slice_.index: place for place, slice_ in enumerate(slices)}
    number_of = {(q.text, q.id): number for number, q in enumerate(questions)}

    def is_open(slice_: Slice, question: Question) -> bool:
        return (place_of[slice_.index], number_of[question.text, question.id]) not in found

    failed = False
    asked: Open[Slice] = is_open
    for slice_, reply in ask_pictures(model, slices, questions, options, asked):
        if isinstance(reply, BioD2CError):
            failed = True
            yield reply
            continue
        found[place_of[slice_.index], number_of[reply.question, reply.id]] = reply
        yield SliceReply(reply, slice_.index)
    if failed:
        return
    indexes = [slice_.index for slice_ in slices]
    for question in questions:
        number = number_of[question.text, question.id]
        replies = [found[place, number] for place in range(len(slices))]
        yield SliceReply(combine(question, replies, indexes, options), None)


def combine(
    question: Question, replies: Sequence[Reply], indexes: Sequence[int], options: AskOptions
) -> Whole:
    """The reply about the whole.

    Args:
        question: The question.
        replies: One a slice, at least one.
        indexes: Which slices these are.
        options: How to answer.
    """
    rising = sorted(zip(indexes, replies, strict=True), key=lambda pair: pair[0])
    indexes, replies = [index for index, _ in rising], [reply for _, reply in rising]
    shares = weigh([reply.answer for reply in replies], [reply.confidence for reply in replies])
    spread = tuple(
        Share(each.answer, each.confidence, tuple(indexes[place] for place in each.places))
        for each in shares
    )
    confidence = shares[0].confidence if shares else 0.0
    abstained = not shares or confidence < options.min_confidence
    listed = tuple((each.answer, each.confidence) for each in shares[: options.n_best])
    reply = Reply(
        question=question.text,
        answer=None if abstained else shares[0].answer,
        confidence=confidence,
        calibrated=False,
        abstained=abstained,
        model=replies[0].model,
        seconds=round(sum(reply.seconds for reply in replies), 3),
        id=question.id,
        candidates=listed if options.n_best > 1 else (),
        familiarity=median_familiarity(reply.familiarity for reply in replies),
        unknown_script=any(reply.unknown_script for reply in replies),
    )
    return Whole(reply, dict(zip(indexes, replies, strict=True)), spread)
