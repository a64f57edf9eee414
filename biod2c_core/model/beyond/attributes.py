"""Yes or no about what an open question tells: "Is this a CT?" answered by "What modality is this?".

A model asked both may contradict itself. A checkpoint that has an ``attributes.json`` answers such a
question by the open one, so that the two agree by construction: "no" then rests on "MRI", say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.errors import CheckpointError
from biod2c_core.foreign import read_json

FILE = "attributes.json"
_MOST_BYTES = 2**18
_LONGEST = 300  # characters of a question that may be one of these
_WORDS = re.compile(r"[^\W_]+", re.UNICODE)
# What a question may say besides the value. With any other word it asks more ("no", "or", "abnormal"), or
# about less than the whole picture ("see", "visible").
_FILLERS = frozenset(
    re.findall(
        "[a-z]+",
        "a an and are as at be been being by can could do does from had has have here i image in "
        "is it look looking looks like made of on one our photo photograph picture pictured scan "
        "show showing shown shows taken that the there these this those to using was we were with "
        "would you ",
    )
)


@dataclass(frozen=True)
class Attribute:
    """Something that every picture has one value of.

    Attributes:
        question: The open question about it.
        values: By the words of each of its names, in lower case: the value as the model answers it.
    """

    question: str
    values: dict[tuple[str, ...], str]


@dataclass(frozen=True)
class Attributes:
    """All of a checkpoint."""

    all: tuple[Attribute, ...]

    def asked_in(self, question: str) -> list[tuple[str, str]]:
        """What a yes/no question comes down to.

        Args:
            question: Any question.

        Returns:
            (open question, value that it must be answered with), one an attribute that it names, all of
            which must hold; nothing if it asks anything else, or names two values of one attribute.
        """
        words = _words(question[: _LONGEST + 1]) if len(question) <= _LONGEST else ()
        found: dict[str, str] = {}
        place = 0
        while place < len(words):
            length, attribute, value = self._value_at(words, place)
            if attribute is not None:
                if attribute.question in found:
                    return []
                found[attribute.question] = value
            elif words[place] not in _FILLERS:
                return []
            place += length
        return list(found.items())

    def to_dict(self) -> dict[str, Any]:
        """All that :meth:`asked_in` reads, as JSON-ready values, for who does the same elsewhere."""
        found = [
            {
                "question": each.question,
                "values": [{"words": name, "value": value} for name, value in each.values.items()],
            }
            for each in self.all
        ]
        return {"longest": _LONGEST, "fillers": sorted(_FILLERS), "all": found}

    def _value_at(self, words: tuple[str, ...], place: int) -> tuple[int, Attribute | None, str]:
        """The longest name of a value at a place, else one word of none."""
        best: tuple[int, Attribute | None, str] = (0, None, "")
        for attribute in self.all:
            for name, value in attribute.values.items():
                if len(name) > best[0] and words[place : place + len(name)] == name:
                    best = len(name), attribute, value
        return best if best[1] is not None else (1, None, "")


def conclude(wanted: Sequence[str], given: Sequence[tuple[str, float]]) -> tuple[bool, float]:
    """Whether all values hold, and how sure that is.

    Args:
        wanted: A value an attribute.
        given: The model's answer to each open question and its confidence p.

    Returns:
        "Yes" is as sure as all answers together, the product of p. "No" is as sure as the surest of the
        answers that say otherwise: the probability of any answer but the wanted one is at least p.
    """
    others = [
        p for want, (text, p) in zip(wanted, given, strict=True) if _words(text) != _words(want)
    ]
    if others:
        return False, max(others)
    product = 1.0
    for _, p in given:
        product *= p
    return True, product


def load_attributes(folder: Path) -> Attributes | None:
    """Those of a checkpoint; None where it has none.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Attributes(tuple(_attribute(each) for each in read_json(path, _MOST_BYTES)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is not a list of questions with their values ({reason})",
            "Copy it again, or remove it.",
        ) from error


def _attribute(content: Any) -> Attribute:
    question, values = content["question"], content["values"]
    names = {_words(name): value for value, all_ in values.items() for name in (value, *all_)}
    if not isinstance(question, str) or not question.strip() or () in names:
        raise ValueError("a question or a name is empty")
    return Attribute(question, names)


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.lower()))
