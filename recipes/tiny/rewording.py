"""Ask a question in other words, by rule, so that it is not learned word by word.

Four in ten of VQA-RAD's train questions are "framed" ("Is/Are there ...", "What is/are the ... near/in
the ...") and nobody asks so: among the test questions there are none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

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

    asked: tuple[str, ...]
    forms: tuple[str, ...]
    tail: bool = True


FORMS = (
    Forms(
        (
            rf"(?:is|are) there (?:any )?evidence (?:of|for) (?:any |an? |the )?{NAMED}",
            rf"(?:is|are) there (?:any |an? )?{NAMED}(?: present| visible| seen)?",
            rf"(?:do|can) you (?:see|appreciate|identify) (?:any |an? )?(?!all|both|the){NAMED}",
            rf"does (?:the|this) (?:image|picture|scan) (?:contain|show) (?:any |an? )?{NAMED}",
            r"is (?:any |an? )(?P<x>[a-z -]+?) (?:present|visible|seen|shown)",
        ),
        (
            "{be} there {x}",
            "{be} there any {x}",
            "is there evidence of {x}",
            "{be} {x} present",
            "can you see {x}",
            "do you see any {x}",
            "does this image show {x}",
        ),
    ),
    Forms(
        (
            rf"(?:is|are) (?P<t>the |both )(?P<x>(?:(?! or ).)+?) (?P<y>{PREDICATES})",
            rf"(?:do|does) (?P<t>the |both ){NAMED} (?:look|appear|seem)(?: to be)? (?P<y>[\w-]+)",
        ),
        (
            "{be} {t}{x} {y}",
            "{do} {t}{x} look {y}",
            "{do} {t}{x} appear {y}",
            "would you say that {t}{x} {be} {y}",
        ),
    ),
    Forms(
        (
            rf"where (?:is|are) (?:the )?{NAMED}(?: located| seen| found| situated)?",
            rf"what is the location of (?:the )?{NAMED}",
            rf"(?:the )?{NAMED} (?:is|are) (?:located )?(?:in (?:what|which) (?:place|area|region)|where)",
            rf"where in the [a-z]+ (?:is|are) (?:the )?{NAMED}",
        ),
        (
            "where {be} the {x}",
            "where {be} the {x} located",
            "what is the location of the {x}",
            "in which location {be} the {x}",
            "in what area {be} the {x} found",
            "where do you see the {x}",
        ),
    ),
    Forms(
        (rf"(?:in )?(?:what|which) (?P<w>side|lobe|lung|organ|quadrant) (?:is|are) (?:the )?{NAMED}"
         r"(?: located| seen| found)?(?: (?:in|on))?",),
        (
            "which {w} {be} the {x} in",
            "in which {w} {be} the {x}",
            "in what {w} {be} the {x} located",
            "the {x} {be} in which {w}",
        ),
    ),
    Forms(
        (
            r"(?:what|which) (?:is the )?(?:imaging )?(?:plane)(?: of .*| is .*| was .*)?",
            r"in (?:what|which) plane .*",
            r"(?:what|which) (?:plane|imaging plane) .*",
        ),
        (
            "what plane is this",
            "in what plane was this image taken",
            "which plane is shown",
            "what is the plane of this image",
            "in which plane is this scan",
        ),
        tail=False,
    ),
    Forms(
        (
            r"(?:what|which) (?:is the )?(?:imaging )?modality.*",
            r"(?:what|which) (?:type|kind) of (?:image|imaging|scan|study|imaging modality) .*",
            r"(?:what|which) imaging (?:modality|technique|method) .*",
            r"how (?:was|is) (?:this|the) (?:image|film|picture|scan) (?:taken|obtained|acquired|made).*",
            r"what (?:type|kind) of imaging.*",
            r"(?:by|with|through) (?:what|which) modality .*",
        ),
        (
            "what modality is this",
            "what imaging modality was used",
            "how was this image taken",
            "what type of imaging is this",
            "what kind of scan is shown",
            "with which modality was this image taken",
        ),
        tail=False,
    ),
    Forms(
        (r"(?:what|which) (?:is the )?(?:main |major )?organ system.*",),
        (
            "what organ system is shown",
            "which organ system is this",
            "what is the organ system",
            "which organ system is imaged",
            "what organ system is being evaluated",
        ),
    ),
    Forms(
        (
            rf"how (?:big|large|wide) (?:is|are) (?:the )?{NAMED}",
            rf"what (?:is|are) the (?:sizes?|dimensions?|diameter) of (?:the )?{NAMED}",
        ),
        (
            "how big {be} the {x}",
            "how large {be} the {x}",
            "what is the size of the {x}",
            "what are the dimensions of the {x}",
        ),
    ),
    Forms(
        (
            rf"how would you describe (?:the )?{NAMED}",
            rf"how (?:do|does) the {NAMED} (?:look|appear)",
            rf"what are the characteristics of (?:the )?{NAMED}",
            rf"(?:please )?describe (?:the )?{NAMED}",
            rf"what (?:do|does) the {NAMED} look like",
        ),
        (
            "how would you describe the {x}",
            "how {do} the {x} look",
            "what {do} the {x} look like",
            "describe the {x}",
            "what are the characteristics of the {x}",
        ),
    ),
    Forms(
        (
            r"what (?:is|are) (?:the )?(?:main |primary )?(?:abnormality|abnormalities|pathology)"
            r"(?: seen| shown| present)?",
            r"what (?:is|are) (?:abnormal|wrong)(?: here)?",
            r"what (?:abnormality|pathology|abnormalities) (?:is|are) (?:seen|shown|present|visible)",
        ),
        (
            "what is abnormal",
            "what is the abnormality",
            "what abnormality is seen",
            "what pathology is seen",
            "what is wrong",
            "what is the pathology",
        ),
    ),
    Forms(
        (
            rf"what (?:is|are) (?:abnormal|wrong) (?:with |in |about |near |of )?(?:the )?(?!this\b){NAMED}",
            rf"what (?:is|are) the (?:abnormality|abnormalities) (?:in|of) (?:the )?{NAMED}",
        ),
        (
            "what is wrong with the {x}",
            "what is abnormal about the {x}",
            "what is the abnormality in the {x}",
            "what abnormality {be} seen in the {x}",
        ),
    ),
    Forms(
        (
            r"what (?:is|are) (?:the )?diseases?(?! origin)(?: .*)?",
            r"what (?:is|are) (?:the )?(?:most likely )?(?:diagnosis|diagnoses)(?: .*)?",
            r"what (?:disease|diagnosis) (?!origin).*",
        ),
        (
            "what is the diagnosis",
            "what disease is shown",
            "what is the most likely diagnosis",
            "which disease does this patient have",
            "what do you diagnose",
        ),
    ),
    Forms(
        (rf"how many {NAMED}(?: (?:are|is) (?:there|present|seen|visible|shown|found|identified)).*",
         rf"what is the number of {NAMED}"),
        (
            "how many {x} are there",
            "how many {x} are seen",
            "how many {x} can you count",
            "what is the number of {x}",
        ),
    ),
    Forms(
        (rf"what colou?r (?:is|are|does|do) (?:the )?{NAMED}(?: show| appear)?",
         rf"what is the colou?r of (?:the )?{NAMED}"),
        ("what color {be} the {x}", "what is the color of the {x}", "which color {do} the {x} have"),
    ),
    Forms(
        (
            rf"what (?:is|are|do|does|could|can) (?:the )?{NAMED} (?:represent|indicate|suggest|signify)",
            r"what (?:is|are) (?P<x>the .+? (?:in|near|on|around|adjacent to|within) the .+)",
        ),
        (
            "what {be} the {x}",
            "what {do} the {x} represent",
            "what could the {x} be",
            "how would you interpret the {x}",
        ),
    ),
    Forms(
        (r"(?:was|is|were) (?P<x>(?:iv |oral |intravenous )?contrast) (?:used|given|administered|present).*",
         r"was (?:this|the) (?:image|scan|study) taken with (?P<x>contrast)",
         r"is there (?P<x>(?:iv |oral )?contrast).*"),
        (
            "was {x} used",
            "was {x} given to the patient",
            "is {x} seen",
            "is this image taken with {x}",
        ),
    ),
    Forms(
        (r"is (?:this|the image|it|this image) (?P<x>an? .+)",),
        ("is this {x}", "is it {x}", "is the image {x}", "do we see {x} here"),
        tail=False,
    ),
    Forms(
        (rf"what (?:is|are) (?:the )?{NAMED}",),
        ("what {be} the {x}", "can you tell what the {x} {be}", "what would you say {be} the {x}"),
    ),
)  # fmt: skip
RULES = [(re.compile(asked, re.IGNORECASE), group) for group in FORMS for asked in group.asked]
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
