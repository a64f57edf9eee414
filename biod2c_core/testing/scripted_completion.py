"""The body of a chat completion, as the scripted endpoint and its batches give it."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any


def request_digest(request: dict[str, Any]) -> str:
    """A short name of what was asked: equal for a repeated request, whatever its wrapping."""
    text = json.dumps(request.get("messages"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def completion_body(request: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """The body of a chat completion that says ``message``."""
    content = message["content"] or ""
    prompt = sum(_words(part) for part in request.get("messages", []))
    usage = {"prompt_tokens": prompt, "completion_tokens": len(content) // 4}
    usage["total_tokens"] = sum(usage.values())
    return {
        "id": f"chatcmpl-{request_digest(request)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.get("model", "fake"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


def _words(message: dict[str, Any]) -> int:
    content = message.get("content") or ""
    if isinstance(content, str):
        return len(content) // 4
    return sum(len(part.get("text", "")) // 4 or 765 for part in content)
