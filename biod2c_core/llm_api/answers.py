"""Reading the body of a chat completion, whatever an endpoint makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from biod2c_core.append_log import whole_characters
from biod2c_core.llm_api.cost import Price, Usage, text_tokens, usage_from
from biod2c_core.llm_api.failures import CallFailed, Failure, one_line


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        text: What the model said.
        usage: Tokens of the request that succeeded.
        cost: US dollars of that request; None where the model's price is unknown.
        truncated: The answer was cut at the limit of tokens.
        cached: It came from the journal; nothing was sent.
        attempts: Requests sent for it.
    """

    text: str
    usage: Usage
    cost: float | None
    truncated: bool = False
    cached: bool = False
    attempts: int = 1

    def json(self) -> Any:
        """The text as JSON.

        Raises:
            ValueError: It is none.
        """
        return json.loads(self.text)


@dataclass(frozen=True)
class Reader:
    """Reads bodies.

    Attributes:
        redact: Takes the API key out of a text.
        price: Price of the model, or None where unknown.
        batch: Whether the Batch API's price holds.
    """

    redact: Callable[[str], str]
    price: Price | None = None
    batch: bool = False

    def cost(self, usage: Usage) -> float | None:
        """US dollars for ``usage``, or None where the price is unknown."""
        return self.price.cost(usage, self.batch) if self.price else None

    def read(self, body: Any, estimate: Usage) -> tuple[Completion | Failure, Usage]:
        """Find the answer in a body.

        Args:
            body: Decoded JSON.
            estimate: What the request was expected to use at most.

        Returns:
            The answer, or why there is none, and what was used (estimated where the body is silent).
        """
        body = body if isinstance(body, dict) else {"error": body}
        try:
            choice = body["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            refusal, text = message.get("refusal"), message.get("content")
        except (KeyError, IndexError, TypeError, AttributeError):
            shown = self._line(json.dumps(body.get("error", list(body)))[:200])
            failure = _paid("malformed", f"the answer holds no choice: {shown}")
            return failure, usage_from(body, replace(estimate, completion_tokens=0))
        text = whole_characters(self.redact(text)) if isinstance(text, str) else ""
        usage = usage_from(body, replace(estimate, completion_tokens=text_tokens(text)))
        if refusal or finish == "content_filter":
            return _paid("refusal", self._line(refusal or "stopped by the content filter")), usage
        if not text.strip():
            return _paid("malformed", "the answer is empty"), usage
        return Completion(text, usage, self.cost(usage), finish == "length"), usage

    def entry(self, key: str, outcome: Completion | Failure, usage: Usage) -> dict[str, Any] | None:
        """What the journal keeps: paid outcomes by their key, other failures only if they cost."""
        cost = self.cost(usage)
        entry: dict[str, Any] = {"cost": cost, "usage": asdict(usage)}
        if isinstance(outcome, Completion):
            return entry | {"key": key, "text": outcome.text, "truncated": outcome.truncated}
        if outcome.kind == "refusal":
            return entry | {"key": key, "refusal": outcome.reason}
        return entry | {"failed": outcome.kind} if cost else None

    def _line(self, text: Any) -> str:
        return whole_characters(one_line(self.redact(str(text))))


def replay(entry: dict[str, Any]) -> Completion:
    """The completion that a journal entry holds.

    Raises:
        CallFailed: The entry is a refusal.
    """
    if "refusal" in entry:
        raise CallFailed("refusal", str(entry["refusal"]), attempts=0)
    usage = Usage(**entry["usage"])
    return Completion(
        entry["text"], usage, entry["cost"], entry["truncated"], cached=True, attempts=0
    )


def _paid(kind: str, reason: str) -> Failure:
    return Failure(kind, reason, None, maybe_billed=True)
