"""How a convention's tool words its questions, where it does; by the name of the profile.

A tool's numbers are of its prompt too: one that names "yes" and "no" gives away which questions are closed.
"""

from __future__ import annotations

from collections.abc import Callable

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.choices import asked_question, choices_of
from biod2c_core.evaluation.score.normalize import closed_answer

_PHRASE = "Answer the question using a single word or phrase."
_CONCISE = "Please answer the question concisely."
_YES_NO = "Please output 'yes' or 'no'(no extra output)."
_LETTER = "Answer with the option's letter from the given choices directly."
_SELECT = "Please select the correct answer from the options above."


def _options(record: Record) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in choices_of(record).items())


def _medevalkit(record: Record) -> str:
    return f"{record.question}\n{_YES_NO if closed_answer(record.answer) else _CONCISE}"


def _medevalkit_slake(record: Record) -> str:
    return f"{record.question}\n{_PHRASE if record.answer_type == 'CLOSED' else _CONCISE}"


def _medevalkit_mcq(record: Record) -> str:
    return f"\nQuestion: {record.question}\nOptions: \n{_options(record)}\n{_LETTER}"


def _vlmevalkit_mcq(record: Record) -> str:
    return f"Question: {record.question}\nOptions:\n{_options(record)}\n{_SELECT} \n"


def _lmms_slake(record: Record) -> str:
    return f"{record.question}\n{_PHRASE}"


PROMPTS: dict[str, Callable[[Record], str]] = {
    "medevalkit": _medevalkit,
    "medevalkit-slake": _medevalkit_slake,
    "medevalkit-mcq": _medevalkit_mcq,
    "vlmevalkit-mcq": _vlmevalkit_mcq,
    "lmms-slake": _lmms_slake,
}
_FOR_CHOICES = ("medevalkit-mcq", "vlmevalkit-mcq")


def check_prompt(name: str, records: list[Record]) -> None:
    """Check that a prompt is known and fits the questions.

    Raises:
        InputError: It does not.
    """
    if name not in PROMPTS:
        raise InputError(f"no prompt of {name!r} is known", f"Known: {', '.join(PROMPTS)}.")
    if name in _FOR_CHOICES:
        without = next((record for record in records if not choices_of(record)), None)
        if without is not None:
            raise InputError(
                f"the prompt of {name!r} is for choices, and {without.id!r} has none",
                "Choose another prompt.",
            )


def worded(record: Record, prompt: str | None) -> str:
    """What a model is asked.

    Args:
        record: The question.
        prompt: A name of ``PROMPTS``; None for the question with its choices, to which a model adds the
            instruction that it needs.
    """
    return PROMPTS[prompt](record) if prompt else asked_question(record)
