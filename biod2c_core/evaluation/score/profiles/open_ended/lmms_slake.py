"""lmms-eval's task for SLAKE: equal after its own normalization.

Counts all questions alike. Brackets go with what is in them, punctuation becomes blanks, and a few
words for yes and no (English and Chinese) count as these; so the Chinese "normal" is a yes.
"""

from __future__ import annotations

import re
import string

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.profiles.base import (
    BY_TYPE_METRICS,
    Profile,
    accuracy_metric,
    by_answer_type,
    rule_for_each,
)

_CLOSES = {"(": ")", "\uff08": "\uff09"}
_FULL_WIDTH = (
    "\uff0c\u3002\uff01\uff1f\uff1b\uff1a\u3001\u201c\u201d\u2018\u2019"
    "\uff08\uff09\u3010\u3011\u300a\u300b"
)
_MARKS = str.maketrans(dict.fromkeys(string.punctuation + _FULL_WIDTH, " "))
_YES = "yes yeah yep true \u662f \u662f\u7684 \u6709 \u5305\u542b \u53ef\u4ee5 \u80fd \u4f1a \u6b63\u5e38"
_NO = (
    "no nope false \u5426 \u4e0d\u662f \u6ca1\u6709 \u65e0 \u4e0d\u5305\u542b \u4e0d\u80fd "
    "\u4e0d\u4f1a \u4e0d\u53ef\u4ee5 \u4e0d\u6b63\u5e38 \u5f02\u5e38"
)
_SAME = {
    "x ray": "xray",
    **dict.fromkeys(_YES.split(), "yes"),
    **dict.fromkeys(_NO.split(), "no"),
}


def normalize(text: str) -> str:
    """A text as the task compares it."""
    cleaned = _without_brackets(text.strip().lower()).translate(_MARKS)
    words = " ".join(cleaned.split())
    return _SAME.get(words, words)


def _without_brackets(text: str) -> str:
    """A blank for each bracket with what is in it, up to the first that closes; open ones stay."""
    kept, start, never = [], 0, set()  # what closes no more: it would be looked for each time
    for opened in re.finditer("[(\uff08]", text):
        close = _CLOSES[opened[0]]
        if opened.start() < start or close in never:
            continue
        end = text.find(close, opened.end())
        if end < 0:
            never.add(close)
            continue
        kept += [text[start : opened.start()], " "]
        start = end + 1
    return "".join([*kept, text[start:]])


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns that apply to one question."""
    correct = float(normalize(record.answer) == normalize(prediction))
    return {"accuracy": correct} | by_answer_type(record, correct)


PROFILE = Profile(
    name="lmms-slake",
    version="1",
    summary="lmms-eval's task for SLAKE: equal after its normalization",
    metrics=(accuracy_metric("Equal after normalization, all questions."), *BY_TYPE_METRICS),
    prepare=rule_for_each(score_question),
    source="EvolvingLMMs-Lab/lmms-eval 75571cf, lmms_eval/tasks/slake/utils.py",
)
