"""Question-answer pairs out of whatever a model wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from biod2c_core.append_log import whole_characters

_LONGEST_ANSWER = 20_000  # characters; nothing sensible is longer
_MOST_TRIES = 200  # places where JSON may begin
_FENCE = re.compile(r"```[a-zA-Z]*\n?|```")
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_STRING = r'"((?:[^"\\]|\\.)*)"'
# the paper's format, which is not JSON: ["question": "xxx", "answer": "xxx", ...]
_FIELD = re.compile(r'"\s*(question|answer|q|a)s?[ _]?\d*\s*"\s*:\s*' + _STRING, re.IGNORECASE)
# Bounded: a line of thousands of stars would be tried from every star.
_LABEL = re.compile(
    r"^[ \t>*#\-]{0,40}(?:\d{1,6}[.)]\s*)?[*_]{0,6}(question|answer|q|a)[ _]?\d{0,6}[*_]{0,6}\s{0,40}[:.]"
    r"\s*[*_]*\s*",
    re.IGNORECASE | re.MULTILINE,
)
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)


@dataclass(frozen=True)
class Pair:
    """A question and its answer."""

    question: str
    answer: str


def parse_pairs(text: str) -> list[Pair]:
    """Find the question-answer pairs in an answer.

    Understood are JSON of any nesting with question and answer fields, in code fences or between
    other text; the paper's bracket format; an answer cut off in the middle; and lines labelled
    "Question:" / "Answer:" or "Q1." / "A1.".

    Args:
        text: What the model wrote.

    Returns:
        The pairs in order; empty where none can be found.
    """
    text = _FENCE.sub("\n", _THOUGHTS.sub(" ", text[:_LONGEST_ANSWER]))
    for read in (_from_json, _from_fields, _from_labels):
        if pairs := list(_couple(read(text))):
            return pairs
    return []


def _couple(fields: Iterator[tuple[str, str]]) -> Iterator[Pair]:
    """Join each question with the answer that follows it."""
    question = ""
    for name, value in fields:
        value = " ".join(whole_characters(value).split()).strip()  # JSON can spell half a character
        if name == "q":
            question = value
        elif question and value:
            yield Pair(question, value)
            question = ""


def _from_json(text: str) -> Iterator[tuple[str, str]]:
    decoder = json.JSONDecoder(object_pairs_hook=_Fields, strict=False)
    position = 0
    for _ in range(_MOST_TRIES):
        start = _next_opening(text, position)
        if start < 0:
            return
        try:
            value, position = decoder.raw_decode(text, start)
            yield from _walk(value)
        except ValueError:
            position = start + 1
        except RecursionError:
            return


class _Fields(list[Any]):
    """The fields of a JSON object in order, a name that occurs twice kept twice."""


def _next_opening(text: str, start: int) -> int:
    found = [index for mark in "{[" if (index := text.find(mark, start)) >= 0]
    return min(found, default=-1)


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, _Fields):
        for name, inner in value:
            kind = _kind(name)
            if kind and isinstance(inner, str):
                yield kind, inner
            elif not isinstance(inner, str):
                yield from _walk(inner)
    elif isinstance(value, list):
        texts = [inner for inner in value if isinstance(inner, str)]
        if len(texts) == len(value) == 2 and texts[0].rstrip().endswith("?"):
            yield from (("q", texts[0]), ("a", texts[1]))
        for inner in value:
            yield from _walk(inner)


def _kind(name: str) -> str:
    bare = re.sub(r"[\W\d_]+", "", name).lower()
    return {"question": "q", "q": "q", "answer": "a", "a": "a"}.get(bare, "")


def _from_fields(text: str) -> Iterator[tuple[str, str]]:
    for name, value in _FIELD.findall(text):
        try:
            plain = json.loads(f'"{value}"', strict=False)
        except ValueError:
            plain = value
        yield name[0].lower(), plain


def _from_labels(text: str) -> Iterator[tuple[str, str]]:
    marks = list(_LABEL.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=False):
        block = text[mark.end() : end].strip()
        paragraph = re.split(r"\n\s*\n", block)[0]
        yield mark[1][0].lower(), _LIST_MARK.sub("", paragraph).strip("*_ ")
