"""The parts of a chat completion that the endpoint sends back."""

from __future__ import annotations

from typing import Any

from biod2c_core.inference.serving.batching import Finished
from biod2c_core.inference.serving.requests import RefusedError


def usage_of(answer: Finished) -> dict[str, int]:
    """Tokens of prompt and answer."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
    }


def reason_of(answer: Finished) -> str:
    """Why the answer ended."""
    return "length" if answer.cut else "stop"


def extras_of(answer: Finished) -> dict[str, Any]:
    """What OpenAI's format has no place for: confidence, familiarity, attention, each of several images."""
    optional: dict[str, Any] = {
        "familiarity": answer.familiarity,
        "warning": answer.warning or None,
        "attention": answer.attention,
    }
    extras = {name: value for name, value in optional.items() if value is not None}
    if answer.images:
        extras["images"] = [{"answer": each.text, **extras_of(each)} for each in answer.images]
        extras["spread"] = [
            {"answer": each.answer, "confidence": each.confidence, "images": list(each.places)}
            for each in answer.spread
        ]
    return {"confidence": answer.confidence, "calibrated": answer.calibrated, **extras}


def error_of(error: RefusedError) -> dict[str, Any]:
    """A refusal as the body of a response."""
    return {
        "error": {"message": error.message, "type": error.code, "param": None, "code": error.code}
    }
