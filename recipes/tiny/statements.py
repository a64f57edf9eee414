"""Turn a question and its answer into a plain statement, by rule; what fits no rule gives none."""

from __future__ import annotations

import re

TAIL = re.compile(
    r"(?:[?.\s]|-\s*(?:yes/no|open)|\s(?:in|on|of) (?:this|the) (?:above )?(?:image|picture|film|scan))+$",
    re.IGNORECASE,
)
PLURAL = re.compile(r"(?:[^sui]s|i|[aeo]us?es)$", re.IGNORECASE)
PREDICATES = (
    "normal|abnormal|enlarged|visible|visualized|present|midline|intact|symmetric|symmetrical|"
    "clear|dilated|distended|hyperdense|hypodense|isodense|hyperintense|hypointense|enhancing|"
    "cystic|solid|calcified|compressed|displaced|deviated|elevated|flattened|blunted|sharp|"
    "healthy|homogenous|homogeneous|heterogeneous|heterogenous|thickened|narrowed|widened|"
    "collapsed|hyperinflated|bilateral|unilateral|well-circumscribed|well circumscribed|"
    "well-defined|radiolucent|radioopaque|radiopaque|involved|affected|edematous|inflamed|"
    "fractured|shifted|effaced|large|small|focal|diffuse|multiple|acute|chronic|malignant|benign"
)
YES_NO = {"yes": "", "no": "not "}
CLOSED_RULES: tuple[tuple[str, str, str], ...] = (
    (
        r"(?:is/are|is|are) there (?:evidence of )?(?:any )?(?P<t>an? )?(?P<x>.+)",
        "there {be} {t}{x}",
        "there {be} no {x}",
    ),
    (
        r"(?:do|can) you see (?!all|both|the)(?:any )?(?P<t>an? )?(?P<x>.+)",
        "{t}{x} {be} seen",
        "no {x} {be} seen",
    ),
    (
        r"does (?:the|this) (?:picture|image) (?:contain|show) (?P<x>.+)",
        "the image contains {x}",
        "the image does not contain {x}",
    ),
    (
        r"does (?P<x>.+) exist in (?:the|this) (?:picture|image)",
        "{x} is in the image",
        "{x} is not in the image",
    ),
    (
        r"(?:does|do) the (?P<x>.+) (?:look|appear) (?P<y>.+)",
        "the {x} {be} {y}",
        "the {x} {be} not {y}",
    ),
    (r"is (?:this|the image|it) (?P<x>an? .+)", "this is {x}", "this is not {x}"),
    (
        r"(?:was|is) (?P<x>(?:iv |oral )?contrast) (?:used|given|administered).*",
        "{x} was used",
        "{x} was not used",
    ),
    (
        r"(?:is|is/are|are) (?P<t>the |this |these |both )?(?P<x>.+?) (?P<y>" + PREDICATES + r")",
        "{t}{x} {be} {y}",
        "{t}{x} {be} not {y}",
    ),
)
OPEN_RULES: tuple[tuple[str, str], ...] = (
    (r"(?:in |on )?(?:what|which).*\bplane\b.*", "the plane is {a}"),
    (
        r"(?:what|which).*\b(?:modality|type of (?:image|imaging|study|scan))\b.*",
        "the modality is {a}",
    ),
    (r"how was (?:this|the) (?:image|film|picture|scan).*", "the modality is {a}"),
    (r"(?:what|which) (?:is the )?(?:main |major )?organ system.*", "the organ system is {a}"),
    (r"what (?:part|region) of the body.*|which part of the body.*", "the body part is {a}"),
    (
        r"what is the (?P<x>[\w ]{3,40}?) organ (?:in|of) (?:this|the) (?:image|picture)",
        "the {x} organ is {a}",
    ),
    (
        r"(?:what|which)(?: is the)? organ(?: is)? (?:shown|seen|imaged|displayed|this).*",
        "the organ is {a}",
    ),
    (r"what diseases? (?:are|is) included in the picture", "the disease is {a}"),
    (r"what diseases?(?: is/are| is| are).*", "the disease is {a}"),
    (
        r"where (?:is/are|is|are) (?:the )?(?P<x>.+?)(?: located| seen| found)?",
        "location of the {x}: {a}",
    ),
    (r"how many (?P<x>.+?) (?:are|is|in)\b.*", "number of {x}: {a}"),
    (r"how (?:big|large|wide) is (?:the )?(?P<x>.+)", "size of the {x}: {a}"),
    (r"how would you describe (?:the )?(?P<x>.+)", "the {x}: {a}"),
    (r"what colou?r (?:is|does|are) (?:the )?(?P<x>.+?)(?: show)?", "colour of the {x}: {a}"),
    (r"what is the colou?r of (?:the )?(?P<x>.+)", "colour of the {x}: {a}"),
    (r"what (?:is|are|is/are) (?:the )?abnormal.*", "the abnormality is {a}"),
    (r"what (?:is|are|is/are) the (?P<x>[\w /-]{3,40})", "the {x}: {a}"),
)
CLOSED = [(re.compile(rule, re.IGNORECASE), yes, no) for rule, yes, no in CLOSED_RULES]
OPEN = [(re.compile(rule, re.IGNORECASE), text) for rule, text in OPEN_RULES]


def statement(question: str, answer: str) -> str:
    """What question and answer say together, without a final period.

    Args:
        question: For example ``"Is/Are there tracheal deviation?"``.
        answer: For example ``"no"``.

    Returns:
        For example ``"there is no tracheal deviation"``; empty when no rule fits.
    """
    asked = TAIL.sub("", " ".join(question.split()))
    said = " ".join(answer.split()).rstrip(".")
    if said.lower() in ("yes", "no"):
        return _closed(asked, said.lower() == "yes")
    for rule, text in OPEN:
        if match := rule.fullmatch(asked):
            return _clean(text.format(a=said, **match.groupdict()))
    return ""


def _closed(asked: str, truth: bool) -> str:
    for rule, yes, no in CLOSED:
        if match := rule.fullmatch(asked):
            parts = {name: text or "" for name, text in match.groupdict().items()}
            if re.search(r"\b(?:than|of|to|and|as|an?|the)$", parts["x"]):
                return ""  # the predicate is longer than its last word
            subject = re.split(r" (?:in|of|on|near|within|involving) ", parts["x"])[0]
            parts["be"] = (
                "are" if PLURAL.search(subject) and "a" not in parts.get("t", "") else "is"
            )
            return _clean((yes if truth else no).format(**parts))
    return ""


def _clean(text: str) -> str:
    """Drop what only a question needs, and let a statement start in lower case."""
    text = re.sub(r"\b(?:near/in|near/ )", "in ", text)
    text = " ".join(text.split()).strip(" ?.,")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def sentence(text: str) -> str:
    """A statement as a sentence."""
    return f"{text[0].upper()}{text[1:]}."
