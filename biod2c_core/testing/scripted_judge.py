"""What the scripted endpoint says to a request that asks it to judge an answer."""

from __future__ import annotations

import json
import re
from typing import Any

_REFERENCE = re.compile(r"(?:reference|standard) answer\"?: *\"?([^\"\n]*)", re.IGNORECASE)
_ANSWER = re.compile(r"(?:model|user)'s answer\"?: *\"?([^\"\n]*)", re.IGNORECASE)


def judge_reply(request: dict[str, Any]) -> str | None:
    """A verdict by shared words, in the form that the request asks for; None for other requests."""
    text = "\n".join(
        content
        for message in request.get("messages", [])
        if isinstance(content := message.get("content"), str)
    )
    references, answers = _REFERENCE.findall(text), _ANSWER.findall(text)
    if not references or not answers:
        return None
    share = _share(references[-1], answers[-1])
    if "<judge>" in text:
        return f"They say the same in {share:.0%}.\n<judge>{0 if share == 1 else 1}</judge>"
    if "[Begin Correctness]" in text:
        return f"[Begin Correctness] {'yes' if share == 1 else 'no'} [End Correctness]"
    if '"reasonableness"' in text:
        score = round(10 * share)
        names = ("reasonableness", "accuracy", "similarity", "score")
        return json.dumps({**dict.fromkeys(names, score), "reason": f"{share:.0%} of the words"})
    return None


def _share(reference: str, answer: str) -> float:
    wanted, said = set(reference.lower().split()), set(answer.lower().strip(" .").split())
    return len(wanted & said) / len(wanted) if wanted else 0.0
