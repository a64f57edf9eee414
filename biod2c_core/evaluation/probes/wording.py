"""The same question in other words, and its negation, by rule; what fits no rule is left as it is.

A rule rewrites a whole question. Questions with a negation or an alternative of their own fit none: their
negation would not be clear to a person either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RULES_VERSION = "1"
LONGEST = 300  # characters of a question; a longer one is a text with a question in it
_WHERE = re.compile(r" (?:in|on) (?:this|the) (?:image|picture|film|scan)$", re.I)
_UNCLEAR = re.compile(
    r"\b(?:no|not|without|neither|none|never|absen\w+|or|than|if|most)\b|n't\b|\?.*\w", re.I
)
_PLURAL = re.compile(r"(?:[^sui]s|[aeo]us?es|ae|\bboth\b.*)$", re.I)
_CUT = re.compile(r" (?:in|of|on|near|within|with|to|from|at|between|involving|along)\b", re.I)
_UNFINISHED = re.compile(
    r"\b(?:than|of|to|and|as|an?|the|in|with|for|by|from|on|more|\w+ly)$", re.I
)
_FRAME = re.compile(r"^(?:is/are|are/is) there\b", re.I)  # VQA-RAD's, for one or several
_PREDICATES = (
    "normal|abnormal|enlarged|visible|visualized|present|midline|intact|symmetric|symmetrical|clear|"
    "dilated|distended|hyperdense|hypodense|isodense|hyperintense|hypointense|enhancing|cystic|solid|"
    "calcified|compressed|displaced|deviated|elevated|flattened|blunted|sharp|healthy|homogenous|"
    "homogeneous|heterogeneous|thickened|narrowed|widened|collapsed|hyperinflated|bilateral|unilateral|"
    "well-circumscribed|well-defined|radiolucent|radiopaque|involved|affected|inflamed|fractured|shifted|"
    "effaced|large|small|focal|diffuse|multiple|acute|chronic|malignant|benign|patent|uniform|round|"
    "obscured|atrophied|increased|decreased|swollen|ring-enhancing|hyperlucent|opaque"
)
_SEEN = "present|visible|visualized|seen|shown|evident|identified"


@dataclass(frozen=True)
class _Rule:
    """One form of a question.

    Attributes:
        asked: The whole question without its end; named groups fill the forms.
        paraphrase: Means the same.
        negation: Is answered by yes where the question is by no; empty for an open question.
    """

    asked: re.Pattern[str]
    paraphrase: str
    negation: str = ""


def _rule(asked: str, paraphrase: str, negation: str = "") -> _Rule:
    return _Rule(re.compile(asked, re.IGNORECASE), paraphrase, negation)


_X, _T = "(?P<x>.+?)", "(?P<t>an? )?"
_CLOSED = (
    _rule(
        r"(?:is|are) there (?:any )?(?P<x>(?:evidence|signs?) (?:of|for) .+)",
        "can you see {x}",
        "is it true that there is no {x}",
    ),
    _rule(
        rf"(?P<be>is|are) there (?:any )?{_T}{_X}(?: (?:{_SEEN}))?",
        "can you see {t}{x}",
        "is it true that there {be} no {x}",
    ),
    _rule(
        rf"(?:do|can) you (?:see|identify|appreciate) (?!all|both|the)(?:any )?{_T}{_X}",
        "{be} there {t}{x}",
        "is it true that there {be} no {x}",
    ),
    _rule(
        rf"do(?:es)? (?:the|this) (?:image|picture|scan|film) (?:contain|show) (?:any )?{_T}{_X}",
        "can you see {t}{x} here",
        "is it true that no {x} can be seen here",
    ),
    _rule(
        rf"(?:is|are) (?:any )?{_T}(?!the |this |these |it )(?P<x>[a-z -]+?) (?:{_SEEN})"
        r"(?P<z> in (?:the|this) .+)?",
        "can you see {t}{x}{z}",
        "is it true that there {be} no {x}{z}",
    ),
    _rule(
        rf"do(?:es)? (?P<y>the|this) patient have {_T}{_X}",
        "can you see {t}{x} in {y} patient",
        "is it true that {y} patient does not have {t}{x}",
    ),
    _rule(
        rf"can (?P<t>the |this |these |both ){_X} be seen",
        "would you say that {t}{x} {be} visible",
        "is it true that {t}{x} cannot be seen",
    ),
    _rule(
        r"is (?P<t>this|the image|this image|it) (?P<x>(?:an?|in|of|from|taken) .+)",
        "would you say that {t} is {x}",
        "is it true that {t} is not {x}",
    ),
    _rule(
        r"(?:was|is) (?P<x>(?:iv |oral |intravenous )?contrast)(?: \w+)? (?P<y>used|given|administered)",
        "did the patient receive {x}",
        "is it true that no {x} was {y}",
    ),
    _rule(
        rf"(?P<be>is|are) (?P<t>the |this |these |both ){_X} (?P<y>{_PREDICATES})",
        "would you say that {t}{x} {be} {y}",
        "is it true that {t}{x} {be} not {y}",
    ),
    _rule(
        rf"do(?:es)? (?P<t>the |both ){_X} (?P<v>look|appear|seem)(?: to be)? (?P<y>[\w-]+)",
        "would you say that {t}{x} {be} {y}",
        "is it true that {t}{x} {do} not {v} {y}",
    ),
)
_IMAGE = r"(?:image|film|picture|scan|study)"
_OPEN = (
    _rule(
        rf"(?:what|which) (?:is the )?(?:imaging )?modality(?: (?:is|was) .*)?"
        rf"|(?:what|which) (?:type|kind) of (?:image|imaging|scan|study)(?: .*)?"
        rf"|how (?:was|is) (?:this|the) {_IMAGE} (?:taken|obtained|acquired|made)"
        rf"|what imaging (?:modality|technique|method)(?: .*)?",
        "with which imaging modality was this taken",
    ),
    _rule(
        r"(?:in )?(?:what|which) (?:imaging )?plane(?: (?:is|was) .*)?|what is the plane(?: of .*)?",
        "this view is in which plane",
    ),
    _rule(
        r"(?:what|which) (?:is the )?(?:main |major )?organ system(?: .*)?",
        "to which organ system does this belong",
    ),
    _rule(
        rf"where (?:is|are) (?:the )?(?!there\b){_X}(?: located| seen| found| situated)?",
        "what is the location of the {x}",
    ),
    _rule(rf"what is the location of (?:the )?{_X}", "where {be} the {x}"),
    _rule(
        rf"how many {_X} (?:are|is) (?:there|present|seen|visible|shown|found)",
        "what is the number of {x}",
    ),
    _rule(rf"what colou?r (?:is|are) (?:the )?{_X}", "what is the color of the {x}"),
    _rule(rf"what is the colou?r of (?:the )?{_X}", "which color {do} the {x} have"),
)


@dataclass(frozen=True)
class Wording:
    """Other words for a question.

    Attributes:
        paraphrase: Means the same.
        negation: Is answered by yes where the question is by no, and the reverse; empty for an open
            question.
    """

    paraphrase: str
    negation: str


def reword(question: str, closed: bool) -> Wording | None:
    """Other words for a question; None where no rule fits.

    Args:
        question: For example ``"Is there a fracture in this image?"``.
        closed: Whether it is answered by yes or no.
    """
    asked = " ".join(question.split())
    if len(asked) > LONGEST or _UNCLEAR.search(asked):
        return None
    framed = _FRAME.match(asked)
    asked = _FRAME.sub("is there", asked).rstrip("?. ")
    tail = _WHERE.search(asked)
    where = tail[0] if tail else ""
    asked = asked.removesuffix(where).rstrip(" ,;:-")
    for rule in _CLOSED if closed else _OPEN:
        match = rule.asked.fullmatch(asked)
        if match is None:
            continue
        parts = {"t": "", "z": "", **{name: text or "" for name, text in match.groupdict().items()}}
        if _UNFINISHED.search(parts.get("x", "")):
            return None  # cut in the wrong place
        parts |= _verbs(parts, None if framed else parts.get("be"))
        return Wording(
            *(_sentence(form, parts, where) for form in (rule.paraphrase, rule.negation))
        )
    return None


def _verbs(parts: dict[str, str], asked: str | None) -> dict[str, str]:
    """Whether what is named is one or several: as it was asked, else by the name."""
    named = _CUT.split(parts["t"] + parts.get("x", ""))[0]
    several = bool(_PLURAL.search(named)) and not re.match(r"an? ", named, re.I)
    several = asked.lower() == "are" if asked else several
    return {"be": "are" if several else "is", "do": "do" if several else "does"}


def _sentence(form: str, parts: dict[str, str], where: str) -> str:
    if not form:
        return ""
    text = form.format(**parts)
    text += "" if text.endswith(" here") else where
    return f"{text[0].upper()}{text[1:]}?"
