"""Reading the body of a chat completion, whatever an endpoint makes of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from biod2c_core.append_log import whole_characters
from biod2c_core.foreign import parse_json
from biod2c_core.llm_api.cost import MOST_TOKENS, Price, Usage, read_usage, text_tokens
from biod2c_core.llm_api.failures import CallFailed, Failure, one_line
from biod2c_core.llm_api.journal import Journal

USAGE_FIELDS = ("prompt_tokens", "completion_tokens")
_LOG = logging.getLogger(__name__)


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
        return parse_json(self.text)


@dataclass(frozen=True)
class AnswerReader:
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
            shown = self._line(json.dumps(body.get("error", list(body)[:20]))[:200])
            failure = _paid("malformed", f"the answer holds no choice: {shown}")
            return failure, read_usage(body, replace(estimate, completion_tokens=0))
        text = whole_characters(self.redact(text)) if isinstance(text, str) else ""
        usage = read_usage(body, replace(estimate, completion_tokens=text_tokens(text)))
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


def journal_entry(journal: Journal, key: str) -> dict[str, Any] | None:
    """The journal's entry of a request, or None where there is none that can be used.

    An entry that cannot be used is left where it is, with a warning; the request is made again.
    """
    entry = journal.get(key)
    if entry is None:
        return None
    usage = entry.get("usage")
    counts = [usage.get(name) for name in USAGE_FIELDS] if isinstance(usage, dict) else [None]
    text = entry.get("refusal", entry.get("text"))
    if (
        isinstance(text, str)
        and all(isinstance(count, int) and 0 <= count <= MOST_TOKENS for count in counts)
        and len(usage or ()) == len(USAGE_FIELDS)
        and isinstance(entry.get("cost"), int | float | None)
        and isinstance(entry.get("truncated", False), bool)
    ):
        return entry | {"text": whole_characters(text)} if "text" in entry else entry
    _set_aside(str(journal.path), key)
    return None


@cache  # said once, however often it is looked up
def _set_aside(path: str, key: str) -> None:
    _LOG.warning("%s: the entry %.40s cannot be used and is set aside", path, key)


def replay_entry(entry: dict[str, Any]) -> Completion:
    """The completion that a journal entry holds.

    Raises:
        CallFailed: The entry is a refusal.
    """
    if "refusal" in entry:
        raise CallFailed("refusal", str(entry["refusal"]), attempts=0)
    usage = Usage(**entry["usage"])
    return Completion(
        entry["text"],
        usage,
        entry.get("cost"),
        entry.get("truncated", False),
        cached=True,
        attempts=0,
    )


def _paid(kind: str, reason: str) -> Failure:
    return Failure(kind, reason, None, maybe_billed=True)
