"""Deterministic predictions of every kind that scoring conventions treat differently.

Used by the parity tests and by ``expected/make_multimedeval.py``, which gives the same predictions
to the original tool. Which kind a question gets depends on its place alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Kind = Callable[[str], str]

NUMBER_WORDS = {"0": "none", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five"}


def _in_words(gold: str) -> str:
    return " ".join(NUMBER_WORDS.get(word, word) for word in gold.split())


KINDS: tuple[Kind, ...] = (
    lambda gold: gold,
    lambda gold: "",
    lambda gold: gold.upper() + ".",
    lambda gold: f"The answer is {gold}",
    lambda gold: f"{gold}\n{gold}, as seen on an image.",
    lambda gold: "It isnt clear; doesnt show a lesion, its " + gold,
    lambda gold: "Yes, there is.",
    lambda gold: "No, it is not seen.",
    lambda gold: "not visible",
    lambda gold: "There are none",
    _in_words,
    lambda gold: " ".join(gold.split()[: (len(gold.split()) + 1) // 2]),
    lambda gold: " ".join(gold.split()[:1] * 3),
    lambda gold: gold.replace(" ", "-") + " - probably",
    lambda gold: f"({gold})",
    lambda gold: f"{gold} measuring 1,000 mm, or 2.5 cm",
    lambda gold: "." * 40 + gold + " ." * 40,
    lambda gold: "  " + "   ".join(reversed(gold.split())) + "\t",
    lambda gold: "yes no",
    lambda gold: "knotted abnormal nodules",
    lambda gold: f"“{gold}” — π ≈ 3.1 ❤️ \u200b" + "x" * 50,
    lambda gold: "a an the",
    lambda gold: f"The {gold} they've, whats left/right? Ive seen ten!",
)


def vary(golds: Sequence[str]) -> list[str]:
    """A prediction for each gold answer."""
    return [KINDS[(7 * place + place // 23) % len(KINDS)](g) for place, g in enumerate(golds)]


# Golds for a parity check that needs no data set.
PLAIN_GOLDS = tuple(
    text.strip()
    for text in """
    Yes | No | yes | no | Yes. | not | none | 0 | 2 | two | Lung | The lung | X-Ray | Left Lung
    Lung, Spinal Cord | right upper lobe | it isn't | 5.6cm focal, predominantly hypodense
    bilateral, diffuse | T2-weighted | the | a | 1,000 | no, normal | Axial plane | 12-20 mm
    don't know | Cardiovascular | PA/lateral | > 5 | ?? | one or two | air-fluid levels. | Ångström
    """.replace("\n", "|").split("|")
    if text.strip()
)
