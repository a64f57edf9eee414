"""What is asked and what is replied, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.data.records import iter_jsonl
from biod2c_core.errors import InputError, RecordError

UNLIKE = 0.05  # familiarity: less familiar than nineteen of twenty left-out pictures


@dataclass(frozen=True)
class Question:
    """A question, and the id it came with."""

    text: str
    id: str | None = None


@dataclass(frozen=True)
class Reply:
    """What ``biod2c ask`` prints, and ``biod2c.load().ask`` returns; as text, the answer.

    Attributes:
        question: The question.
        answer: The model's answer; None where it is not sure enough.
        confidence: How sure it is, in [0, 1].
        calibrated: Whether the confidence is the share of such answers that were right on held-out
            records; otherwise it is the probability that the model gives to the answer, or, of a
            calibrated checkpoint, less for a picture of which the calibration knows nothing.
        abstained: Whether the confidence was below what was asked for.
        model: The name of the checkpoint.
        seconds: Time to answer, as a share of its batch; loading and encoding not included.
        id: Of the question, if it came with one.
        candidates: (answer, confidence) of the n best, the answer of the model first.
        familiarity: Of the picture: the share of left-out training pictures that lie farther from what
            the model was trained on, in [0, 1]; None where the checkpoint has no reference.
        unknown_script: Whether the question is in a script that the model was hardly trained on.
    """

    question: str
    answer: str | None
    confidence: float
    calibrated: bool
    abstained: bool
    model: str
    seconds: float
    id: str | None = None
    candidates: tuple[tuple[str, float], ...] = ()
    familiarity: float | None = None
    unknown_script: bool = False

    def __str__(self) -> str:
        if self.answer is None:
            return f"(not sure enough: {self.confidence:.2f})"
        return self.answer

    def to_row(self) -> dict[str, Any]:
        """As a JSON row; what is optional only where there is something."""
        row: dict[str, Any] = dict(vars(self))
        if self.id is None:
            del row["id"]
        row["candidates"] = [
            {"answer": text, "confidence": value} for text, value in self.candidates
        ]
        if not self.candidates:
            del row["candidates"]
        if self.familiarity is None:
            del row["familiarity"]
        if not self.unknown_script:
            del row["unknown_script"]
        return row

    def warnings(self) -> list[str]:
        """Lines for people where the answer means little, first of the picture, then of the question."""
        return warnings_about(self.model, self.question, self.familiarity, self.unknown_script)


def is_unlike(familiarity: float | None) -> bool:
    """Whether a picture of this familiarity is unlike those of training; of unknown ones it is not said."""
    return familiarity is not None and familiarity < UNLIKE


def warnings_about(
    model: str, question: str, familiarity: float | None, unknown_script: bool
) -> list[str]:
    """Lines for people where an answer means little; arguments as the attributes of :class:`Reply`."""
    lines = about_picture(model, familiarity) if familiarity is not None else []
    return [*lines, script_warning(model, question)] if unknown_script else lines


def script_warning(model: str, question: str) -> str:
    """The line about a question in a script that the model hardly knows."""
    return (
        f"{question!r} is in a script that {model} was hardly trained on: its answer means little"
    )


def about_picture(model: str, familiarity: float | None) -> list[str]:
    """What people should know of a picture: that it is unlike those of training, or that none can tell.

    Args:
        model: The name of the checkpoint.
        familiarity: Of the picture; None where the checkpoint has no reference.
    """
    if familiarity is None:
        return [
            f"{model} has no reference of its training pictures, so nothing is said of those unlike them "
            "(see 'biod2c calibrate --train')"
        ]
    if is_unlike(familiarity):
        return [f"this picture is unlike those that {model} was trained on"]
    return []


def about_pictures(model: str, unlike: Sequence[str], count: int, noun: str) -> list[str]:
    """What people should know of several pictures: how many are unlike those of training.

    Args:
        model: The name of the checkpoint.
        unlike: The names of those that are.
        count: How many pictures there are in all.
        noun: What they are, ``pictures`` or ``slices``.
    """
    if not unlike:
        return []
    return [
        f"{len(unlike)} of {count} {noun} are unlike those that {model} was trained on (familiarity "
        f"below {UNLIKE}), the first {unlike[0]}"
    ]


@dataclass(frozen=True)
class AskOptions:
    """How to answer.

    Attributes:
        n_best: How many answers each reply lists.
        min_confidence: Below it, no answer is given.
    """

    n_best: int = 1
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.n_best <= 20:
            raise InputError(f"n-best is {self.n_best}, expected 1 to 20")
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"min-confidence is {self.min_confidence}, expected 0 to 1")


def check_question(text: str) -> str:
    """A question with text in it.

    Raises:
        InputError: It is empty, or not UTF-8 text.
    """
    if not isinstance(text, str):
        raise InputError(
            f"a question is text, {type(text).__name__} given",
            "The image comes first, the question behind it.",
        )
    if not text.strip():
        raise InputError("the question is empty", "Ask something about the image.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            "the question is not UTF-8 text", "Check the terminal's encoding."
        ) from None
    return text


def gather_questions(texts: Sequence[str], file: Path | None) -> list[Question]:
    """The questions given and those of a JSONL file, in this order.

    Args:
        texts: Questions.
        file: A JSON object with ``question`` (and maybe ``id``) per line, or one text per line.

    Raises:
        InputError: There is no question, or one is empty.
        RecordError: A line holds no question; ``file:line`` is named.
    """
    questions = [Question(check_question(text)) for text in texts]
    for number, row in iter_jsonl(file) if file else ():
        text = row.get("question") if isinstance(row, dict) else row
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise RecordError(
                file or "", number, "no question here", 'Write {"question": "..."} a line.'
            )
        questions.append(Question(check_question(text), None if name is None else str(name)))
    if not questions:
        raise InputError(
            "there is no question",
            "Give one behind the image, with --question, or --questions FILE.jsonl.",
        )
    return questions
