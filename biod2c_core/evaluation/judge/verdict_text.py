"""Finding the verdict in a judge's reply, whatever stands around it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

LONGEST = 1 << 19  # characters; the verdict is at the end
# A string without an end goes on to the end: it is looked at once, not again from each quote in it.
_COMMA = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|,(?=\s*[}\]])', re.DOTALL)
_INNER = ("score", "rating", "value")
_DEEPEST = 8


def last_verdict(text: str, keys: Collection[str]) -> dict[str, Any]:
    """The last JSON object in a reply that has all of these keys, nested or not.

    Reasoning before it, drafts, text behind it and commas before a closing bracket do not matter.

    Args:
        text: The reply.
        keys: What a verdict must have, in lower case.

    Returns:
        Keys in lower case to values; a value that is an object of its own is its score. Where no object
        has all keys, the last one.

    Raises:
        ValueError: There is no JSON object.
    """
    row: dict[str, Any] | None = None
    complete = False
    for value in _objects(_without_trailing_commas(text[-LONGEST:])):
        for inner in _inside(value, _DEEPEST):
            found = {str(key).strip().lower(): held for key, held in inner.items()}
            if (has_all := found.keys() >= set(keys)) or not complete:
                row, complete = found, complete or has_all
    if row is None:
        raise ValueError("the reply holds no JSON object")
    return {key: _score_of(value) if key in keys else value for key, value in row.items()}


def _without_trailing_commas(text: str) -> str:
    return _COMMA.sub(lambda match: "" if match[0] == "," else match[0], text)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand in a text, one after the other.

    Raises:
        ValueError: There are brackets, but no object: what is wrong with the last one.
    """
    decoder, problem, found = json.JSONDecoder(), None, False
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            problem, end = error, place + 1
        except RecursionError:
            raise ValueError("the reply is nested too deeply") from None
        else:
            found = found or bool(value)
            if value:
                yield value
        place = text.find("{", end)
    if problem is not None and not found:
        raise problem


def _inside(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The objects in a value, the outer one last: it is what the judge settled on."""
    if depth == 0 or not isinstance(value, dict | list):
        return
    for held in value.values() if isinstance(value, dict) else value:
        yield from _inside(held, depth - 1)
    if isinstance(value, dict):
        yield value


def _score_of(value: Any) -> Any:
    """A number that a judge gave with its reason: {"score": 8, "reason": ...}."""
    if not isinstance(value, dict):
        return value
    row = {str(key).strip().lower(): held for key, held in value.items()}
    return next((row[key] for key in _INNER if key in row), value)
