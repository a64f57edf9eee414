r"""Taking the final answer out of a longer text, as released evaluation code does it.

Each function keeps the quirks of the code that it is named for, because the published numbers have
them.
"""

from __future__ import annotations

import re

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
    opened: list[int] = []
    closes: dict[int, int] = {}
    for brace in re.finditer("[{}]", text):  # once through the text: boxes may be many and open
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            closes[opened.pop()] = brace.start()
    starts = [found.end() for found in re.finditer(re.escape(_BOX), text)]
    closed = next((start for start in reversed(starts) if start - 1 in closes), None)
    return None if closed is None else text[closed : closes[closed - 1]].strip()


def elements(text: str, name: str, ignore_case: bool = False) -> list[str]:
    """The contents of all closed elements of a name, such as ``<answer>yes</answer>``, as written."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    # Behind the last end tag there is none: each of many start tags would be followed to the end.
    last = max((end.end() for end in re.finditer(f"</{name}>", text, flags)), default=0)
    return re.findall(f"<{name}>(.*?)</{name}>", text[:last], flags)


def answer_elements(text: str) -> str:
    """The contents of all ``<answer>`` elements, joined by blanks; the text where none is closed."""
    if "<answer>" not in text:
        return text
    found = elements(text, "answer")
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
