"""A client of OpenAI-compatible chat endpoints: retries, limits, journal, cost."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from biod2c_core.errors import EndpointError, InputError
from biod2c_core.foreign import parse_json
from biod2c_core.llm_api.answers import AnswerReader, Completion, journal_entry, replay_entry
from biod2c_core.llm_api.cost import Budget, Price, Usage, load_price, prompt_tokens, text_tokens
from biod2c_core.llm_api.credentials import read_api_key, read_base_url, redact
from biod2c_core.llm_api.failures import (
    FATAL,
    RETRYABLE,
    CallFailed,
    Failure,
    classify_failure,
    fatal_error,
    one_line,
)
from biod2c_core.llm_api.http import http_client
from biod2c_core.llm_api.journal import Journal, request_key
from biod2c_core.llm_api.limiter import Limiter

_FIRST_BACKOFF = 0.5  # seconds; doubles with each attempt
_LONGEST_BACKOFF = 30.0
_ANNOUNCED = 10.0  # seconds; longer waits are announced
_LONGEST_WAIT = 60.0  # whatever the endpoint asks for
_LOG = logging.getLogger(__name__)
_PATIENCE = 900.0  # seconds that one call may spend being turned away with 429
_GIVE_UP_AFTER = 12  # calls in a row that failed for good, with no success between


class Client:
    """Sends chat requests, at most ``max_in_flight`` at once, and gets each one answered once.

    Args:
        model: Name as the endpoint knows it.
        base_url: The endpoint; None reads ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: None reads ``OPENAI_API_KEY``.
        limiter: Shared limits; None for none but the endpoint's own.
        journal: Where answers are kept; a request found there is not sent again.
        budget: US dollars for everything in the journal and to come; needs a known price.
        price: None looks the model up in the table that is shipped.
        max_in_flight: Requests at once.
        timeout: Seconds for one request, from sending to the last byte.
        max_attempts: Requests per call; those turned away with 429 are not counted.
        max_tokens: Limit of an answer.

    Raises:
        InputError: No key, no http(s) URL, or a budget for a model of unknown price.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        limiter: Limiter | None = None,
        journal: Journal | None = None,
        budget: float | None = None,
        price: Price | None = None,
        max_in_flight: int = 16,
        timeout: float = 60.0,
        max_attempts: int = 6,
        max_tokens: int = 1024,
        seed: int | None = None,
    ) -> None:
        if max_in_flight < 1 or max_attempts < 1 or max_tokens < 1 or timeout <= 0:
            raise InputError(
                "requests in flight, attempts, tokens and the time limit must be positive"
            )
        self.model = model
        self.base_url = read_base_url(base_url)
        self.price = price or load_price(model)
        if budget is not None and self.price is None:
            raise InputError(
                f"a budget needs the price of {model!r}, which the price table does not have",
                "Give a table that has it with --prices FILE.",
            )
        self.budget = Budget(budget, journal.spent if journal else 0.0)
        self.timeout = timeout
        self._key = read_api_key(api_key)
        self.reader = AnswerReader(self.redact, self.price)
        self._limiter = limiter or Limiter()
        self.journal = journal
        self._slots = asyncio.Semaphore(max_in_flight)
        self._max_in_flight = max_in_flight
        self._max_attempts = max_attempts
        self.max_tokens = max_tokens
        self._random = random.Random(seed)
        self._limit_name = "max_tokens"
        self._schemas_work: bool | None = None  # None until an answer tells
        self._failed_in_a_row = 0
        self._announced = float("-inf")  # when a long wait was last spoken of
        self._unkept: OSError | None = None  # why an answer could not be journalled
        self._openai: Any = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the journal stays open, it is its opener's."""
        if self._openai is not None:
            await self._openai.close()
            self._openai = None

    async def complete(
        self,
        messages: list[dict[str, Any]],
        schema: dict[str, Any] | None = None,
        *,
        temperature: float | None = None,
        key: str | None = None,
        image_tokens: int = 765,
    ) -> Completion:
        """Get one answer.

        Args:
            messages: OpenAI chat messages.
            schema: JSON schema of the answer; asked for as structured output, and left out by itself
                where the endpoint does not know that, so parse tolerantly.
            temperature: None for the endpoint's default.
            key: Name in the journal; None hashes the request.
            image_tokens: Estimate for each image among the messages.

        Raises:
            CallFailed: No answer for good; says why. A refusal is paid and kept, so it is raised
                again from the journal; other failures are asked again in the next run.
            EndpointError: The endpoint is down or refuses everything; stop the run.
            BudgetError: The budget does not cover this request.
        """
        key = key or request_key(self.base_url, self.model, messages, schema, temperature)
        if self.journal is not None and (entry := journal_entry(self.journal, key)) is not None:
            return replay_entry(entry)
        estimate = self.estimate(messages, schema, image_tokens)
        return await _Call(self, key, messages, schema, temperature, estimate).run()

    def estimate(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, image_tokens: int
    ) -> Usage:
        """The most that a request may use; the limiter and the budget reserve it."""
        asked = text_tokens(json.dumps(schema)) if schema is not None else 0
        return Usage(prompt_tokens(messages, image_tokens) + asked, self.max_tokens)

    async def send(self, payload: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Send one request and decode its body, whatever that is.

        Raises:
            Exception: Whatever the ``openai`` package raises; ``classify_failure`` sorts it.
            ValueError: The body is not a JSON object.
        """
        completions = self.connection().chat.completions.with_raw_response
        raw = await asyncio.wait_for(completions.create(**payload), self.timeout)
        body = parse_json(raw.http_response.content)
        if not isinstance(body, dict):
            raise ValueError("the body is not a JSON object")
        return body, raw.headers

    def connection(self) -> Any:
        """The ``openai.AsyncOpenAI`` with this client's key and endpoint; opened at first use."""
        if self._openai is None:
            import openai

            self._openai = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=self.base_url,
                timeout=self.timeout,
                max_retries=0,
                http_client=http_client(self.base_url, self.timeout),
            )
        return self._openai

    def redact(self, text: str) -> str:
        """``text`` without the API key."""
        return redact(text, self._key)

    def payload(
        self,
        messages: list[dict[str, Any]],
        schema: dict[str, Any] | None,
        temperature: float | None,
    ) -> dict[str, Any]:
        """The body of a request, in the dialect that the endpoint has shown to understand."""
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        body[self._limit_name] = self.max_tokens
        if temperature is not None:
            body["temperature"] = temperature
        if schema is not None and self._schemas_work is not False:
            named = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    def capped(self, asked: float | None) -> float | None:
        """What to wait of the seconds that the endpoint asked for; long waits are announced."""
        if asked is None or asked <= _ANNOUNCED:
            return asked
        wait, now = min(asked, _LONGEST_WAIT), time.monotonic()
        if now >= self._announced + wait:
            self._announced = now
            _LOG.warning("the endpoint asks to wait %.6g s; asking again in %.0f s", asked, wait)
        return wait

    def _note_failure(self, failure: Failure) -> None:
        """Count a call that failed for good; many in a row mean that the endpoint is down."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= _GIVE_UP_AFTER:
            raise EndpointError(
                f"{self._failed_in_a_row} calls in a row failed, the last with {failure.reason}",
                "Check the endpoint and run again; what was answered is kept.",
            )


class _Call:
    """The attempts of one call, until it has an answer or has failed for good."""

    def __init__(
        self,
        client: Client,
        key: str,
        messages: list[dict[str, Any]],
        schema: dict[str, Any] | None,
        temperature: float | None,
        estimate: Usage,
    ) -> None:
        self._client = client
        self._key = key
        self._messages = messages
        self._schema = schema
        self._with_schema = schema is not None
        self._temperature = temperature
        self._estimate = estimate
        self._sent = 0
        self._cost = 0.0

    async def run(self) -> Completion:
        failures, turned_away_at = 0, 0.0
        while True:
            outcome = await self._attempt()
            if isinstance(outcome, Completion):
                self._client._failed_in_a_row = 0
                return replace(outcome, attempts=self._sent)
            if outcome.kind in FATAL:
                raise fatal_error(outcome)
            if outcome.kind == "rate_limit":
                turned_away_at = turned_away_at or time.monotonic()
                if time.monotonic() - turned_away_at > _PATIENCE:
                    self._fail(outcome)
                continue
            if outcome.kind == "bad_request" and self._try_other_dialect(outcome):
                continue
            failures += 1
            if outcome.kind not in RETRYABLE or failures >= self._client._max_attempts:
                self._fail(outcome)
            await asyncio.sleep(self._backoff(failures, outcome.retry_after))

    def _fail(self, failure: Failure) -> None:
        if failure.kind in RETRYABLE:
            self._client._note_failure(failure)
        cost = self._cost if self._client.price else None
        raise CallFailed(failure.kind, failure.reason, self._sent, cost)

    def _payload(self) -> dict[str, Any]:
        schema = self._schema if self._with_schema else None
        return self._client.payload(self._messages, schema, self._temperature)

    def _try_other_dialect(self, failure: Failure) -> bool:
        """After a 400: ask again with the newer name of the limit, or without structured output."""
        before = self._payload()
        if "max_completion_tokens" in failure.reason:
            self._client._limit_name = "max_completion_tokens"
        elif self._with_schema and not self._client._schemas_work:
            self._with_schema = False
        return self._payload() != before

    def _backoff(self, failures: int, asked: float | None) -> float:
        longest = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** (failures - 1))
        jittered = longest * (0.5 + self._client._random.random() / 2)
        return max(jittered, self._client.capped(asked) or 0.0)

    async def _attempt(self) -> Completion | Failure:
        client = self._client
        async with client._slots:
            ticket = await client._limiter.acquire(self._estimate.total)
            reserved = client.reader.cost(self._estimate) or 0.0
            await client.budget.reserve(reserved)
            spent = reserved  # what stands if this task is cancelled before an answer
            try:
                if client._unkept is not None:  # another answer would be paid for and lost as well
                    raise client._unkept
                outcome, usage, headers = await self._exchange()
                spent = self._keep(outcome, usage)  # first of all: it is paid for
                client._limiter.observe(headers)
            finally:
                await client.budget.settle(reserved, spent)
        if isinstance(outcome, Failure) and outcome.kind == "rate_limit":
            wait = client.capped(outcome.retry_after) or self._backoff(1, None)
            client._limiter.pause(wait, ticket)
        elif isinstance(outcome, Completion):
            client._limiter.correct(ticket, outcome.usage.total)
        return outcome

    async def _exchange(self) -> tuple[Completion | Failure, Usage, Mapping[str, str]]:
        """Send once; say what came, what it used, and the headers."""
        client = self._client
        self._sent += 1
        payload = self._payload()
        try:
            body, headers = await client.send(payload)
        except ValueError as error:
            reason = f"the answer is not JSON ({one_line(str(error), 80)})"
            failure = Failure("malformed", client.redact(reason), maybe_billed=True)
            return failure, self._likely_usage(failure), {}
        except Exception as error:
            failure = classify_failure(error)
            failure = replace(failure, reason=client.redact(failure.reason))
            headers = getattr(getattr(error, "response", None), "headers", {})
            return failure, self._likely_usage(failure), headers
        outcome, usage = client.reader.read(body, self._estimate)
        if isinstance(outcome, Completion) and "response_format" in payload:
            client._schemas_work = True
        elif isinstance(outcome, Completion) and self._schema is not None:
            client._schemas_work = False
        return outcome, usage, headers

    def _likely_usage(self, failure: Failure) -> Usage:
        return replace(self._estimate, completion_tokens=0) if failure.maybe_billed else Usage()

    def _keep(self, outcome: Completion | Failure, usage: Usage) -> float:
        """Journal what was paid for, before it counts; returns US dollars."""
        reader, journal = self._client.reader, self._client.journal
        cost = reader.cost(usage) or 0.0
        self._cost += cost
        entry = reader.entry(self._key, outcome, usage)
        if entry is not None and journal is not None:
            try:
                journal.add(entry)
            except OSError as error:
                self._client._unkept = error
                raise
        return cost
