"""Quality gates: which generated pairs may enter the set, and why the others may not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from biod2c_core.curation.qa_parsing import Pair

_ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|vs|cf|approx|ca|no|fig|figs|dr|st|resp|incl|etc|al|max|min|[A-Za-z])\.$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.?!]+(?=\s+[\"'(]?[A-Z0-9]|\s*$)")
_CAPTION = re.compile(
    r"\b(?:captions?|captioned|legend|image[- ]url)\b"
    r"|\b(?:given|provided|accompanying)\s+(?:text|description|passage|information)\b"
    r"|\b(?:in|per|from|by|to)\s+the\s+(?:text|description|passage)\b(?!\s+(?:label|mark|overlay))",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^\W*(?:i['\u2019]?m sorry|sorry|i (?:cannot|can['\u2019]?t|am unable|am not able)|as an ai|"
    r"(?:it is )?(?:not possible|impossible) to (?:determine|tell|say))\b",
    re.IGNORECASE,
)
_CLOSED = frozenset({"yes", "no", "true", "false"})
_PLACEHOLDER = re.compile(
    r"(?:\W*(?:x{2,}|n/?a|none|null|question|answer)\W*|(?=\W*\.\.)\W*)$", re.IGNORECASE
)
_LONGEST = 2000  # characters; what has no blanks is a word of any length

REASONS = {
    "length": "question or answer too short or too long",
    "sentence": "the question is not a single sentence",
    "caption": "it refers to the caption",
    "copied": "the answer is copied from the caption",
    "closed": "the answer is only yes or no",
    "refusal": "the answer is a refusal",
    "placeholder": "the format's placeholder instead of text",
    "duplicate": "the same question was asked about this image",
    "surplus": "more than three pairs",
}


@dataclass(frozen=True)
class GateLimits:
    """Bounds of the gates.

    Attributes:
        question_words: Fewest and most words of a question.
        answer_words: Fewest and most words of an answer.
        copied_run: An answer is copied if it shares this many words in a row with the caption.
        copied_share: Or if this share of an answer of 5 words or more is one run of the caption.
    """

    question_words: tuple[int, int] = (3, 40)
    answer_words: tuple[int, int] = (1, 80)
    copied_run: int = 8
    copied_share: float = 0.8


def rejection_reason(pair: Pair, caption: str, limits: GateLimits | None = None) -> str:
    """Why a pair may not enter the set, looking at this pair alone.

    Args:
        pair: The pair.
        caption: The caption it was made from.
        limits: Bounds; None for the defaults.

    Returns:
        A key of ``REASONS``; empty where the pair is fine.
    """
    limits = limits or GateLimits()
    if max(len(pair.question), len(pair.answer)) > _LONGEST:
        return "length"  # before the checks that take the square of it
    checks = {
        "placeholder": _PLACEHOLDER.match(pair.question) or _PLACEHOLDER.match(pair.answer),
        "length": not _within(pair.question, limits.question_words)
        or not _within(pair.answer, limits.answer_words),
        "sentence": count_sentences(pair.question) != 1,
        "caption": _CAPTION.search(pair.question) or _CAPTION.search(pair.answer),
        "refusal": _REFUSAL.match(pair.answer),
        "closed": " ".join(words(pair.answer)) in _CLOSED,
        "copied": is_copied(pair.answer, caption, limits),
    }
    return next((name for name, failed in checks.items() if failed), "")


def count_sentences(text: str) -> int:
    """How many sentences ``text`` has; abbreviations and decimals do not end one."""
    count, start = 0, 0
    for match in _SENTENCE_END.finditer(text):
        before = text[start : match.start() + 1]
        last = match.end() == len(text.rstrip())
        if match[0] == "." and _ABBREVIATION.search(before) and not last:
            continue
        count, start = count + 1, match.end()
    return count + bool(text[start:].strip())


def is_copied(answer: str, caption: str, limits: GateLimits) -> bool:
    """Whether the answer repeats a long run of the caption's words."""
    said = words(answer)
    run = longest_common_run(said, words(caption))
    most_of_it = len(said) >= 5 and run >= limits.copied_share * len(said)
    return run >= limits.copied_run or most_of_it


def longest_common_run(first: list[str], second: list[str]) -> int:
    """Length of the longest run of words that both lists hold."""
    best = 0
    previous = [0] * (len(second) + 1)
    for word in first:
        current = [0] * (len(second) + 1)
        for index, other in enumerate(second, start=1):
            if word == other:
                current[index] = previous[index - 1] + 1
        best = max(best, *current)
        previous = current
    return best


def question_name(question: str) -> str:
    """What makes two questions the same: their words, without articles, letter case and order kept."""
    return " ".join(word for word in words(question) if word not in ("a", "an", "the", "this"))


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"[^\W_]+(?:[.'\u2019-][^\W_]+)*", text.lower())


def _within(text: str, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= len(words(text)) <= bounds[1]
