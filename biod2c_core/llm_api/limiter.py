"""A limiter of requests and tokens per minute that also obeys what the endpoint says."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from biod2c_core.errors import InputError

MINUTE = 60.0
# The endpoint counts arrivals, we count departures: a longer window absorbs the difference.
WINDOW = MINUTE * 1.02
_FIRST_SLOWDOWN = 0.05  # seconds between requests after the first 429
_RECOVERY = 0.97  # each success shortens that time by this factor
_LONGEST_NAP = 1.0  # seconds; then look again, for corrections may have made room
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(eq=False)
class Ticket:
    """One request let through: when, how many tokens it counts for, and whether it still counts."""

    time: float
    tokens: int
    counted: bool = False


class Limiter:
    """Lets requests through one by one, in the order they asked.

    Two rules hold at once: no more than the limit in any window of 60 s (counted by departure, with
    2% to spare), and an even pace instead of a burst at the start of each minute.
    Without a limit there is no pace until the endpoint answers 429; then the pace slows by half at
    each further 429 and recovers with each success.

    Args:
        requests_per_minute: The limit; None for none.
        tokens_per_minute: The limit, prompt and answer together; None for none.
        clock: Seconds, monotonic.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        for name, value in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if value is not None and value < 1:
                raise InputError(f"the limit of {name} per minute is {value}", "Give 1 or more.")
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._log: deque[Ticket] = deque()
        self._log_tokens = 0
        self._next_slot = float("-inf")
        self._paused_until = float("-inf")
        self._slowed_at = float("-inf")
        self._slow_interval = 0.0

    async def acquire(self, tokens: int) -> Ticket:
        """Wait until a request of about ``tokens`` tokens may be sent.

        Raises:
            InputError: The request alone is over the limit of tokens per minute.
        """
        if self._tokens is not None and tokens > self._tokens:
            raise InputError(
                f"one request needs about {tokens} tokens, the limit is {self._tokens} per minute",
                "Raise the limit, or send smaller images and shorter captions.",
            )
        async with self._turn:
            slept = False
            while (wait := self._wait(tokens)) > 0:
                await self._sleep(min(wait, _LONGEST_NAP))
                slept = True
            now = self._clock()
            interval = self._interval()
            # a sleep that took too long is made up for, by at most one slot
            due = max(self._next_slot, now - interval) if slept else now
            self._next_slot = due + interval
            ticket = Ticket(now, tokens)
            if self._requests is not None or self._tokens is not None:
                ticket.counted = True
                self._log.append(ticket)
                self._log_tokens += tokens
            return ticket

    def correct(self, ticket: Ticket, tokens: int) -> None:
        """Replace a ticket's estimate by the tokens that the endpoint counted."""
        if ticket.counted:
            self._log_tokens += tokens - ticket.tokens
        ticket.tokens = tokens
        self._slow_interval *= _RECOVERY
        if self._slow_interval < 0.001:
            self._slow_interval = 0.0

    def pause(self, seconds: float, ticket: Ticket | None = None) -> None:
        """Let nothing through for ``seconds``, because the endpoint said so.

        Args:
            seconds: How long.
            ticket: The request that was turned away; the pace slows once for all those that left
                before the last slow-down.
        """
        now = self._clock()
        self._paused_until = max(self._paused_until, now + seconds)
        if ticket is not None and ticket.time > self._slowed_at:
            self._slow_interval = max(self._slow_interval * 1.5, _FIRST_SLOWDOWN)
            self._slowed_at = now

    def observe(self, headers: Mapping[str, str]) -> None:
        """Read ``x-ratelimit-remaining-*`` and ``x-ratelimit-reset-*``: pause where nothing is left."""
        for name in ("requests", "tokens"):
            remaining = headers.get(f"x-ratelimit-remaining-{name}", "")
            reset = parse_duration(headers.get(f"x-ratelimit-reset-{name}", ""))
            if remaining.strip() == "0" and reset is not None:
                self.pause(min(reset, MINUTE))

    def _interval(self) -> float:
        pace = WINDOW / self._requests if self._requests is not None else 0.0
        return max(pace, self._slow_interval)

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        while self._log and self._log[0].time <= now - WINDOW:
            oldest = self._log.popleft()
            oldest.counted = False
            self._log_tokens -= oldest.tokens
        wait = max(self._paused_until - now, self._next_slot - now)
        if self._requests is not None and len(self._log) >= self._requests:
            wait = max(wait, self._log[0].time + WINDOW - now)
        if self._tokens is not None:
            wait = max(wait, self._wait_for_tokens(tokens, now))
        return wait

    def _wait_for_tokens(self, tokens: int, now: float) -> float:
        excess = self._log_tokens + tokens - (self._tokens or 0)
        for ticket in self._log:
            if excess <= 0:
                break
            excess -= ticket.tokens
            if excess <= 0:
                return ticket.time + WINDOW - now
        return 0.0


def parse_duration(text: str) -> float | None:
    """Seconds in ``"6m0s"``, ``"120ms"``, ``"1.5"``; None where it is none of these."""
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", text)
    if not parts or "".join(a + b for a, b in parts) != text.strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
