"""Texts in other scripts than Latin and Greek: their words, for measures that were made for English.

The conventions cut a text at blanks and know ASCII punctuation only. That leaves English as it is and
makes one word of a Chinese sentence, so here each character of a script without blanks between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) becomes a word of its own, with the marks that belong to
it, and punctuation of any kind separates words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Letters of other scripts and East Asian punctuation. Latin with accents, Greek (as in "\u03b2-blocker"),
# dashes and quotation marks are English prose, which the conventions' own code reads.
_OTHER_SCRIPT = re.compile(
    "[\u0400-\u1cff\u2c80-\u2dff\u2e80-\ua69f\ua800-\uab2f\uab70-\ud7ff"
    "\uf900-\ufaff\ufb1d-\ufdff\ufe30-\ufefe\uff01-\uffdc\U00010800-\U0001bfff\U00020000-\U0003ffff]"
)
_WITHOUT_BLANKS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def has_other_script(text: str) -> bool:
    """Whether a text has letters of another script than Latin and Greek."""
    return not text.isascii() and _OTHER_SCRIPT.search(text) is not None


def spaced(text: str) -> str:
    """A text with blanks between its words: as it is, if it has Latin and Greek letters only.

    Args:
        text: Any text. Full-width and half-width letters count as the ordinary ones (NFKC).

    Returns:
        Words joined by single blanks, punctuation other than ASCII left out.
    """
    if not has_other_script(text):
        return text
    parts: list[str] = []
    alone = False  # the last character is a word, with the marks that follow it
    for character in _compatible(text):
        category = unicodedata.category(character)
        if category[0] == "M":
            parts.append(character)
        elif category[0] in "PZC" and not character.isascii():
            parts.append(" ")
            alone = False
        else:
            starts = _WITHOUT_BLANKS.match(character) is not None
            parts += [" ", character] if alone or starts else [character]
            alone = starts
    # marks that came from spacing accents stand in any order
    return unicodedata.normalize("NFC", " ".join("".join(parts).split()))


def _compatible(text: str) -> Iterator[str]:
    """The characters in their ordinary width; full-width punctuation stays as it is."""
    for character in unicodedata.normalize("NFC", text):
        ordinary = unicodedata.normalize("NFKC", character)
        yield from character if unicodedata.category(ordinary[0])[0] == "P" else ordinary


def words(text: str) -> list[str]:
    """The words of a text in any script, lower case, without any punctuation."""
    kept = (
        " " if unicodedata.category(character)[0] in "PSZC" else character
        for character in spaced(text.lower())
    )
    return "".join(kept).split()
