"""What can go wrong with one call, sorted by what to do about it."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from biod2c_core.append_log import whole_characters
from biod2c_core.errors import EndpointError
from biod2c_core.llm_api.http import BodyError

RETRYABLE = ("rate_limit", "server", "timeout", "connection", "malformed")
FATAL = ("auth", "not_found", "quota", "protocol")
KINDS = (*RETRYABLE, "refusal", "bad_request", *FATAL)

_BAD_REQUEST = (400, 413, 414, 415, 422)
_AUTH = (401, 403)
_OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_REMEDY = {
    "auth": "Check OPENAI_API_KEY and that it may use this model.",
    "not_found": "Check --model and the base URL (it usually ends in /v1).",
    "quota": "The account has no credit left; nothing more was sent.",
    "protocol": "Check that the base URL is an OpenAI-compatible endpoint.",
}


@dataclass(frozen=True)
class Failure:
    """One attempt that did not give an answer.

    Attributes:
        kind: One of ``KINDS``.
        reason: One line for a person, without the API key.
        retry_after: Seconds the endpoint asked to wait, if it did.
        maybe_billed: The endpoint may have done the work, and charge for it, all the same.
    """

    kind: str
    reason: str
    retry_after: float | None = None
    maybe_billed: bool = False


class CallFailed(EndpointError):  # noqa: N818 (an outcome of one call, not of the program)
    """One call gave no answer for good; the caller records the item as failed with the reason.

    Args:
        kind: One of ``KINDS``.
        reason: One line for a person.
        attempts: How many requests were sent.
        cost: US dollars spent on them; None where the model's price is unknown.
    """

    def __init__(self, kind: str, reason: str, attempts: int = 1, cost: float | None = 0.0) -> None:
        self.kind = kind
        self.reason = reason
        self.attempts = attempts
        self.cost = cost
        super().__init__(f"{kind}: {reason}")


def fatal_error(failure: Failure) -> EndpointError:
    """The error that stops the whole run: no other call would fare better."""
    return EndpointError(f"the endpoint refused: {failure.reason}", _REMEDY[failure.kind])


def classify_failure(error: Exception) -> Failure:
    """Sort an exception of the ``openai`` package.

    Args:
        error: What a call raised.

    Returns:
        Its kind; anything unknown counts as a connection failure, which is retried.
    """
    import openai

    if isinstance(error, openai.APITimeoutError | TimeoutError | asyncio.TimeoutError):
        return Failure("timeout", "no answer within the time limit", maybe_billed=True)
    if isinstance(error, openai.APIStatusError):
        return _from_status(error.status_code, error.response.headers, error.body, str(error))
    cause = error.__cause__ or error
    if isinstance(cause, BodyError):
        return Failure("malformed", str(cause), maybe_billed=True)
    sent = type(cause).__name__ != "ConnectError"
    reason = f"{type(cause).__name__}: {cause}".rstrip(": ")
    return Failure("connection", one_line(reason), maybe_billed=sent)


def _from_status(status: int, headers: Mapping[str, str], body: Any, text: str) -> Failure:
    detail = body.get("error", body) if isinstance(body, dict) else {}
    detail = detail if isinstance(detail, dict) else {"message": str(detail)}
    reason = one_line(f"HTTP {status}: {detail.get('message') or text}")
    if 300 <= status < 400:
        reason = one_line(f"HTTP {status}: it redirects to {headers.get('location', 'nowhere')}")
        return Failure("protocol", f"{reason}, which is not followed")
    wait = retry_after(headers)
    if status == 402 or (status == 429 and detail.get("code") in _OUT_OF_MONEY):
        return Failure("quota", reason)
    if status == 429:
        return Failure("rate_limit", reason, wait)
    if status in (408, 409) or status >= 500:
        return Failure("server", reason, wait)
    if status in _AUTH:
        return Failure("auth", reason)
    if status == 404:
        return Failure("not_found", reason)
    return Failure("bad_request" if status in _BAD_REQUEST else "protocol", reason)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds or a date), or None."""
    try:
        return _seconds(float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after", "")
    try:
        return _seconds(float(value))
    except ValueError:
        pass
    try:
        return _seconds(parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(value: float) -> float:
    return max(0.0, value) if math.isfinite(value) else 0.0


def one_line(text: str, limit: int = 300) -> str:
    """``text`` without control characters and line breaks, cut at ``limit`` characters."""
    flat = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", whole_characters(text)).split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
