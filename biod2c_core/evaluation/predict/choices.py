"""Multiple-choice records: their choices, and how they are shown to a model."""

from __future__ import annotations

from biod2c_core.data.formats.fields.choices import LETTERS, without_letters
from biod2c_core.data.records import Record


def choices_of(record: Record) -> dict[str, str]:
    """Letter to text of a multiple-choice record (tags ``choice_a`` to ``choice_h``), else empty.

    A choice's own letter before its text ("B: left lung") is left out.
    """
    return without_letters(
        {letter: record.tags.get(f"choice_{letter.lower()}", "") for letter in LETTERS}
    )


def asked_question(record: Record) -> str:
    """What the model is asked: the question, with the choices behind it where there are any."""
    choices = " ".join(f"{letter}: {text}" for letter, text in choices_of(record).items())
    return f"{record.question} Choices: {choices}" if choices else record.question
