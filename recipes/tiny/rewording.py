"""Ask a question in other words, by rule, so that it is not learned word by word.

Four in ten of VQA-RAD's train questions are "framed" ("Is/Are there ...", "What is/are the ... near/in
the ...") and nobody asks so: among the test questions there are none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from statements import PLURAL, PREDICATES, TAIL

NAMED = "(?P<x>.+?)"
SLASHES = (
    (r"\bis/are\b|\bare/is\b", "{be}"),
    (r"\bpresent/visualized\b", "visible"),
    (r"\bnear/ ?in( the)?\b", "in the"),
    (r"\bthe the\b", "the"),
)


@dataclass(frozen=True)
class Forms:
    """Ways to ask one thing.

    Attributes:
        asked: Patterns of the whole question without its tail; their named groups fill the forms.
        forms: With ``{be}`` for is or are, as ``{x}`` is one or several.
        tail: Whether "in this image" may follow.
    """

    asked: list[str]
    forms: list[str]
    tail: bool = True


FORMS = [
    Forms(**each)
    for each in yaml.safe_load(Path(__file__).with_name("rewordings.yaml").read_text("utf-8"))
]
RULES = [
    (
        re.compile(asked.replace("{x}", NAMED).replace("{predicates}", PREDICATES), re.IGNORECASE),
        group,
    )
    for group in FORMS
    for asked in group.asked
]
BEHIND = re.compile(
    rf" (?:in|of|on|near|within|under|between|involving|located|seen|{PREDICATES})\b|[?.]"
)
ENDINGS = ("?", "?", "", " in this image?", " in the image?", " here?", " on this scan?")
SYNONYMS = (
    ("image", "picture", "scan"),
    ("located", "found"),
    ("lesion", "abnormality"),
    ("enlarged", "bigger than normal"),
    ("visible", "visualized"),
    ("shown", "displayed"),
    ("abnormality", "finding"),
)


def rewordings(question: str, most: int, rng: random.Random) -> list[str]:
    """The question in other words.

    Args:
        question: For example ``"Where is/are the lesion located?"``.
        most: How many are wanted.
        rng: Chooses among the forms.

    Returns:
        Up to so many, each different from the others and from the question, whatever the case and
        the punctuation; for example ``["What is the location of the lesion?"]``.
    """
    found: dict[str, str] = {_bare(question): ""}
    plain = spoken(question)
    candidates = [plain, *(_ending(form, tail, rng) for form, tail in _forms(plain))]
    rng.shuffle(candidates)
    candidates += [_ending(TAIL.sub("", plain), True, rng) for _ in range(most)]
    candidates += [_exchange(each, rng) for each in candidates]
    for text in candidates:
        if len(found) <= most:
            found.setdefault(_bare(text), text[:1].upper() + text[1:])
    return [text for text in found.values() if text]


def spoken(question: str) -> str:
    """A framed question as somebody would say it: one of "is/are", no "near/in"."""
    text = " ".join(question.split())
    for rule, said in SLASHES:
        text = re.sub(rule, said, text, flags=re.IGNORECASE)
    if "{be}" in text:
        before, _, behind = text.partition("{be}")
        named = re.sub(r"^ ?(?:there |the |any )*", "", behind)
        text = f"{before}{_be(named)}{behind}"
    return text[:1].upper() + text[1:]


def _be(named: str) -> str:
    """Whether one or several: by the last word of what is named first."""
    return "are" if PLURAL.search(BEHIND.split(named)[0]) else "is"


def _forms(question: str) -> Iterator[tuple[str, bool]]:
    """All forms of the first rule that fits, without an end, and whether a tail may follow."""
    asked = TAIL.sub("", question)
    for rule, group in RULES:
        match = rule.fullmatch(asked)
        if not match:
            continue
        parts = {"t": "", **{name: text or "" for name, text in match.groupdict().items()}}
        if "x" in parts:
            parts["x"] = re.sub(
                r"^(?:the|an?) (?=.* (?:in|near|on|around|within) )", "", parts["x"]
            )
            if re.search(r"\b(?:than|of|to|and|as|an?|the|in)$", parts["x"]):
                return  # cut in the wrong place
            parts["be"] = "are" if parts["t"] == "both " else _be(parts["x"])
            parts["do"] = "do" if parts["be"] == "are" else "does"
        for form in group.forms:
            yield (
                re.sub(r"\bthe (?=(?:the|this|these|both|an?)\b)", "", form.format(**parts)),
                group.tail,
            )
        return


def _ending(form: str, tail: bool, rng: random.Random) -> str:
    """A form with a question mark or without, and often the words that end a question."""
    placed = re.search(r"\b(?:image|scan|picture|patient|here)\b", form)
    return form + rng.choice(ENDINGS[: len(ENDINGS) if tail and not placed else 3])


def _exchange(text: str, rng: random.Random) -> str:
    """One word, where there is one, by another that means the same here."""
    fits = [group for group in SYNONYMS if any(re.search(rf"\b{w}\b", text) for w in group)]
    if not fits:
        return text
    group = rng.choice(fits)
    word = next(word for word in group if re.search(rf"\b{word}\b", text))
    return re.sub(rf"\b{word}\b", rng.choice([w for w in group if w != word]), text)


def _bare(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9/]+", text.lower()))
