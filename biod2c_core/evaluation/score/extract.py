r"""Taking the final answer out of a longer text, as released evaluation code does it.

Each function keeps the quirks of the code that it is named for, because the published numbers have
them.
"""

from __future__ import annotations

import re

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_MARKERS = (
    *("**answer**:", "**answer**", "*answer*:", "**answer:**", "answer is", "answer:"),
    *("\u7b54\u6848:", "final answer", "final answer is"),
)
_BOX = "\\boxed{"


def last_box(text: str) -> str | None:
    r"""What stands in the last LaTeX box whose braces close, without blanks around it.

    Returns:
        None where there is no closed ``\boxed{...}``.
    """
    start = text.rfind(_BOX)
    while start >= 0:
        depth = 0
        for place in range(start + len(_BOX) - 1, len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                return text[start + len(_BOX) : place].strip()
        start = text.rfind(_BOX, 0, start)
    return None


def answer_elements(text: str) -> str:
    """The contents of all ``<answer>`` elements, joined by blanks; the text where none is closed."""
    if "<answer>" not in text:
        return text
    found = _ANSWER.findall(text)
    return " ".join(found) if found else text


def final_answer(text: str) -> str:
    """The last box, else the answer elements: MedEvalKit's first step."""
    if _BOX in text and (boxed := last_box(text)) is not None:
        return boxed
    return answer_elements(text)


def after_markers(text: str) -> str:
    """MedEvalKit's second step: lower case, box or tags once more, then what follows "answer is" ...

    Blanks behind a marker stay, so "answer: right" gives " right".
    """
    text = text.lower()
    if "boxed" in text:
        text = last_box(text) or "None"
    elif "<answer>" in text:
        text = answer_elements(text)
    for marker in _MARKERS:
        if marker in text:
            text = text.rsplit(marker, 1)[1]
    return text
