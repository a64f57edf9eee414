"""Multiple choice: letters before the choices, and which choice an answer means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from biod2c_core.data.formats.fields.values import yes_no_type

LETTERS = "ABCDEFGH"
_PREFIXES = {
    letter: re.compile(rf"[(\[]?\s*{letter}\s*([:.)\]])\s*", re.IGNORECASE) for letter in LETTERS
}
_MARKUP = re.compile(r"[*_`$]+|\\(?:boxed|text|mathrm|mathbf)|[{}]")
_LEAD = re.compile(
    r".*(?:\b(?:answer|choice|option|ans)\b\s*(?:(?:is|would\s+be)\b\s*[:=]?|[:=])"
    r"|(?:答案|选项|選項)\s*[是为為:]*\s*|[选選][择擇]?\s*)\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_NAMED = re.compile(r"(?:the\s+)?(?:option|choice|answer|letter)\s+(.+)", re.IGNORECASE | re.DOTALL)
_LETTER = re.compile(r"[(\[]?\s*([A-Ha-h])\s*(?:[)\]:.,\u3001\u3002]+|\s-|$)\s*(.*)", re.DOTALL)
_LETTERS_AGAIN = re.compile(r"(?:(?:and|or|&|,)?\s*[A-Ha-h]\b[\s.,)]*)+")
_BLANK_BEHIND = re.compile(r"([A-H])\s+(.+)", re.DOTALL)
_SAID = re.compile(
    r"[(\[]?([A-H])[)\]]?,?\s+(?:because|since|(?:is|would be|seems)\s+(?:the\s+)?"
    r"(?:correct|right|best|answer))\b"
)


def without_letters(choices: Mapping[str, str]) -> dict[str, str]:
    """Choices without the letter that some files put before the text.

    A letter goes only where it is that choice's own. Before a full stop it can be the initial of a
    name ("C. difficile" as choice C), so there it goes only if every choice has its own.

    Args:
        choices: Letter to text; empty texts are left out.
    """
    texts = {letter: text.strip() for letter, text in choices.items() if text.strip()}
    own = {letter: _own_prefix(letter, text) for letter, text in texts.items()}
    every = len(texts) > 1 and all(own.values())
    return {
        letter: text[found.end() :]
        if (found := own[letter]) and (every or found[1] != ".") and found.end() < len(text)
        else text
        for letter, text in texts.items()
    }


def _own_prefix(letter: str, text: str) -> re.Match[str] | None:
    return _PREFIXES[letter].match(text) if letter in _PREFIXES else None


def choice_fields(choices: Mapping[str, str], label: str, answer: str = "") -> dict[str, Any]:
    """The fields of a record that a multiple-choice question has: answer, its type, and tags.

    Args:
        choices: Letter to text, as published.
        label: The right letter; empty where none is published, or the answer is none of the choices.
        answer: The answer then.

    Raises:
        ValueError: There are fewer than two choices or more than ``LETTERS`` has, or the label is none of
            them.
    """
    texts = without_letters(choices)
    if beyond := [letter for letter in texts if letter not in LETTERS]:
        raise ValueError(f"there is a choice {beyond[0]!r}; {LETTERS[0]} to {LETTERS[-1]} are read")
    if len(texts) < 2:
        raise ValueError(f"a question with {len(texts)} choices is not multiple choice")
    if label and label not in texts:
        raise ValueError(f"the answer is {label!r}, but there are only the choices {[*texts]}")
    answer = texts[label] if label else answer
    tags = {f"choice_{letter.lower()}": text for letter, text in texts.items()}
    if label:
        tags["answer_label"] = label
    return {"answer": answer, "answer_type": yes_no_type(answer), "tags": tags}


def plain_choice(text: str) -> str:
    """A choice as it is compared: no case, no blanks or punctuation around it, single blanks."""
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.strip(" .,;:!?\"'()[]*`\u3002\uff0c")


def choice_meant(choices: Mapping[str, str], answer: str) -> str:
    """The letter of the choice that an answer names: by its text, else by its letter.

    "C. difficile" is the choice of that text, if there is one, and not choice C. "B", "(B)", "B)",
    "**B**", "B: left lung", "Option B", "Answer: B" and "The answer is B." mean choice B.

    Args:
        choices: Letter to text, without the letters in the text.
        answer: What was said.

    Returns:
        Empty where it names none.
    """
    said = answer if answer.isascii() else unicodedata.normalize("NFKC", answer)
    return _meant(choices, _MARKUP.sub("", said).strip(), 3)


def _meant(choices: Mapping[str, str], answer: str, depth: int) -> str:
    said = plain_choice(answer)
    if not said:
        return ""
    exact = [letter for letter, text in choices.items() if " ".join(text.split()) == answer]
    same = exact or [letter for letter, text in choices.items() if plain_choice(text) == said]
    if same:
        return same[0]
    if found := _LETTER.fullmatch(answer):
        letter, rest = found[1].upper(), found[2]
        if letter in choices and (not rest or _is_own(choices, letter, answer, rest)):
            return letter
    if (found := _BLANK_BEHIND.fullmatch(answer)) and (
        plain_choice(choices.get(found[1], "")) == plain_choice(found[2])
    ):
        return found[1]
    if (found := _SAID.match(answer)) and found[1] in choices:
        return found[1]
    for lead in (_LEAD, _NAMED) if depth else ():
        if (found := lead.fullmatch(answer)) and (letter := _meant(choices, found[1], depth - 1)):
            return letter
    return ""


def _is_own(choices: Mapping[str, str], letter: str, answer: str, rest: str) -> bool:
    """Whether a text behind a letter leaves it a letter: it may be an initial, as in "C. albicans"."""
    if plain_choice(choices[letter]) == plain_choice(rest):
        return True
    if _LETTERS_AGAIN.fullmatch(rest):
        return False  # "A, B" names two
    start = answer[: len(answer) - len(rest)].strip().casefold()
    return not any(text.casefold().startswith(start) for text in choices.values())
