"""Yes or no about what an open question tells: "Is this a CT?" answered by "What modality is this?".

A model asked both may contradict itself. A checkpoint that has an ``attributes.json`` answers such a
question by the open one, so that the two agree by construction: "no" then rests on "MRI", say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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


class Condition(NamedTuple):
    """What the answer to an open question must be, or, where ``holds`` is false, must not be."""

    question: str
    value: str
    holds: bool = True


@dataclass(frozen=True)
class Attribute:
    """Something that every picture has one value of.

    Attributes:
        question: The open question about it.
        names: By the words of each name, in lower case: the value that it means, and whether it means
            that one or any but that one, as "medical" means any but "not a medical image".
    """

    question: str
    names: dict[tuple[str, ...], tuple[str, bool]]


@dataclass(frozen=True)
class Attributes:
    """All of a checkpoint."""

    all: tuple[Attribute, ...]

    def asked_in(self, question: str) -> list[Condition]:
        """What a yes/no question comes down to.

        Args:
            question: Any question.

        Returns:
            One condition an attribute that it names, all of which must be met; nothing if it asks anything
            else, or names two values of one attribute.
        """
        words = _words(question[: _LONGEST + 1]) if len(question) <= _LONGEST else ()
        found: dict[str, Condition] = {}
        place = 0
        while place < len(words):
            length, condition = self._named_at(words, place)
            if condition is not None:
                if condition.question in found:
                    return []
                found[condition.question] = condition
            elif words[place] not in _FILLERS:
                return []
            place += length
        return list(found.values())

    def to_dict(self) -> dict[str, Any]:
        """All that :meth:`asked_in` reads, as JSON-ready values, for who does the same elsewhere."""
        found = [
            {
                "question": each.question,
                "names": [
                    {"words": name, "value": value, "holds": holds}
                    for name, (value, holds) in each.names.items()
                ],
            }
            for each in self.all
        ]
        return {"longest": _LONGEST, "fillers": sorted(_FILLERS), "all": found}

    def _named_at(self, words: tuple[str, ...], place: int) -> tuple[int, Condition | None]:
        """What the longest name at a place means, else one word of none."""
        best: tuple[int, Condition | None] = (0, None)
        for attribute in self.all:
            for name, meant in attribute.names.items():
                if len(name) > best[0] and words[place : place + len(name)] == name:
                    best = len(name), Condition(attribute.question, *meant)
        return best if best[1] is not None else (1, None)


def conclude(wanted: Sequence[Condition], given: Sequence[tuple[str, float]]) -> tuple[bool, float]:
    """Whether all conditions are met, and how sure that is.

    Args:
        wanted: A condition an attribute.
        given: The model's answer to each open question and its confidence p.

    Returns:
        "Yes" is as sure as all answers together, the product of p. "No" is as sure as the surest of the
        answers that say otherwise. Of "any answer but this one" p of the answer given is a lower bound.
    """
    others = [
        p
        for want, (text, p) in zip(wanted, given, strict=True)
        if (_words(text) == _words(want.value)) != want.holds
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
        found = tuple(_attribute(each) for each in read_json(path, _MOST_BYTES))
        if len({each.question for each in found}) < len(found):
            raise ValueError("a question is there twice")
        return Attributes(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is not a list of questions with their values ({reason})",
            "Copy it again, or remove it.",
        ) from error


def _attribute(content: Any) -> Attribute:
    question, values = content["question"], content["values"]
    question.encode("utf-8")  # half a character is none that a model could read
    names: dict[tuple[str, ...], tuple[str, bool]] = {}
    for value, all_ in values.items():
        for name in (value, *_list(all_)):
            _add(names, name, (value, True))
    for value, all_ in content.get("unless", {}).items():
        if value not in values:
            raise ValueError(f"{value!r} under 'unless' is no value")
        for name in _list(all_):
            _add(names, name, (value, False))
    if not question.strip() or () in names:
        raise ValueError("a question or a name is empty")
    return Attribute(question, names)


def _list(names: Any) -> list[Any]:
    if not isinstance(names, list):
        raise TypeError(f"names are a list, not {type(names).__name__}")
    return names


def _add(
    names: dict[tuple[str, ...], tuple[str, bool]], name: str, meant: tuple[str, bool]
) -> None:
    if names.setdefault(_words(name), meant) != meant:
        raise ValueError(f"{name!r} means two things")


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.lower()))
