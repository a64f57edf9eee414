"""Values of published fields as the texts of a record."""

from __future__ import annotations

import re
from typing import Any

from biod2c_core.data.formats.fields.yes_no import yes_or_no
from biod2c_core.data.records import SPLIT_WORDS, text_of

CAPTION_QUESTION = "Describe the image."
_WORDS = re.compile(r"[a-z]+")
_FILE_WORDS = {**SPLIT_WORDS, "trainset": "train", "testset": "test", "valset": "validation"}


def required(row: dict[str, Any], name: str) -> str:
    """A field as text without blanks around it.

    Raises:
        ValueError: It is missing, empty or neither text nor a number.
    """
    value = optional(row, name)
    if not value:
        raise ValueError(f"field {name!r} is missing or empty")
    return value


def optional(row: dict[str, Any], name: str) -> str:
    """A field as text without blanks around it, empty where it is missing or null.

    Raises:
        ValueError: It is neither text nor a number.
    """
    value = row.get(name)
    return value.strip() if type(value) is str else text_of(name, value)


def is_empty(value: Any) -> bool:
    """Whether a published value says nothing: null, NaN (a table's gap), blank text, no items."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value != value or value in ([], {})


def answer_type(row: dict[str, Any]) -> str:
    """The published ``answer_type`` without its stray blanks, or, without one, by the answer.

    Raises:
        ValueError: It is neither ``CLOSED`` nor ``OPEN``.
    """
    kind = optional(row, "answer_type").upper()
    if kind not in ("CLOSED", "OPEN", ""):
        raise ValueError(f"field 'answer_type' is {kind!r}; allowed: CLOSED, OPEN")
    return kind or yes_no_type(optional(row, "answer"))


def yes_no_type(answer: str) -> str:
    """``CLOSED`` for yes and no, ``OPEN`` for other answers: the rule where none is published."""
    if not answer:
        return ""
    return "CLOSED" if yes_or_no(answer) else "OPEN"


def tags(row: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    """Published fields as tags.

    Args:
        row: The published row.
        names: Field name to tag name; empty fields are left out.
    """
    values = {tag: optional(row, name) for name, tag in names.items()}
    return {tag: value for tag, value in values.items() if value}


def split_in(name: str) -> str:
    """The split that a name speaks of in whole words, as ``train_2``, ``rad-test`` or ``validate``.

    Returns:
        Empty where it speaks of none ("valve", "testis") or of several ("train-and-test").
    """
    found = {_FILE_WORDS[word] for word in _WORDS.findall(name.lower()) if word in _FILE_WORDS}
    return found.pop() if len(found) == 1 else ""


def caption_fields(question: str, caption: str) -> dict[str, str]:
    """The fields of a captioning sample, whose answer is the caption itself."""
    return {
        "question": question or CAPTION_QUESTION,
        "answer": caption,
        "answer_type": "OPEN",
        "caption": caption,
    }
