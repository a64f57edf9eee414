"""The limiter on a clock of its own: limits hold in every window, and little is wasted."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.errors import InputError
from biod2c_core.llm_api.limiter import Limiter, parse_duration


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def make(requests: int | None = None, tokens: int | None = None) -> tuple[Limiter, Clock]:
    clock = Clock()
    return Limiter(requests, tokens, clock, clock.sleep), clock


def departures(limiter: Limiter, requests: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """When each request leaves, if the callers wait (gap, tokens) before each."""

    async def run() -> list[tuple[float, int]]:
        left = []
        for gap, tokens in requests:
            await limiter._sleep(gap)
            left.append(((await limiter.acquire(tokens)).time, tokens))
        return left

    return asyncio.run(run())


def most_in_a_minute(left: list[tuple[float, int]], weight: int) -> int:
    values = [(time, 1 if weight == 0 else tokens) for time, tokens in left]
    return max(sum(v for t, v in values if start <= t < start + 60) for start, _ in values)


gaps = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.01, 3.0, 59.0, 61.0]), st.integers(1, 90)))


@given(limit=st.integers(1, 40), requests=gaps)
@settings(max_examples=60, deadline=None)
def test_no_window_holds_more_requests_than_the_limit(limit, requests) -> None:
    left = departures(make(requests=limit)[0], [(0.0, 1), *requests])
    assert most_in_a_minute(left, weight=0) <= limit


@given(limit=st.integers(90, 400), requests=gaps)
@settings(max_examples=60, deadline=None)
def test_no_window_holds_more_tokens_than_the_limit(limit, requests) -> None:
    left = departures(make(tokens=limit)[0], [(0.0, 1), *requests])
    assert most_in_a_minute(left, weight=1) <= limit


def test_300_a_minute_are_reached_and_evenly_spread() -> None:
    left = departures(make(requests=300)[0], [(0.0, 1)] * 1500)
    assert most_in_a_minute(left, weight=0) <= 300
    minutes = (left[-1][0] - left[0][0]) / 60
    assert 1500 / minutes > 290
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(left)]
    assert min(gaps) > 0.15  # no burst


def test_a_stalled_caller_is_not_made_up_for_by_a_burst() -> None:
    left = departures(make(requests=60)[0], [(0.0, 1), (30.0, 1), (0.0, 1), (0.0, 1)])
    times = [time for time, _ in left]
    assert [round(b - a, 6) for a, b in pairwise(times)] == [30.0, 1.02, 1.02]


def test_too_few_tokens_used_make_room_at_once() -> None:
    limiter, clock = make(tokens=100)

    async def run() -> float:
        ticket = await limiter.acquire(90)
        limiter.correct(ticket, 10)
        await limiter.acquire(90)
        return clock.now

    assert asyncio.run(run()) == 1000.0


def test_a_request_over_the_token_limit_is_an_error() -> None:
    limiter, _ = make(tokens=100)
    with pytest.raises(InputError, match="101 tokens, the limit is 100"):
        asyncio.run(limiter.acquire(101))


@pytest.mark.parametrize("requests", [0, -3])
def test_a_limit_below_one_is_an_error(requests: int) -> None:
    with pytest.raises(InputError, match="limit of requests per minute"):
        Limiter(requests)


def test_a_pause_holds_everyone_back() -> None:
    limiter, _ = make()
    limiter.pause(7.5)
    assert departures(limiter, [(0.0, 1)])[0][0] >= 1007.5


def test_headers_that_say_nothing_is_left_pause_until_the_reset() -> None:
    limiter, _ = make()
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "20s"}
    limiter.observe(headers)
    assert departures(limiter, [(0.0, 1)])[0][0] == 1000.0
    limiter.observe(headers | {"x-ratelimit-remaining-requests": "0"})
    assert departures(limiter, [(0.0, 1)])[0][0] >= 1020.0


def test_being_turned_away_slows_the_pace_once_and_success_restores_it() -> None:
    limiter, clock = make()

    async def run() -> tuple[float, float]:
        tickets = [await limiter.acquire(1) for _ in range(64)]
        for ticket in tickets:  # all were in flight when the first 429 came: one slow-down
            clock.now += 0.001
            limiter.pause(0.0, ticket)
        slow = limiter._interval()
        for _ in range(400):
            limiter.correct(await limiter.acquire(1), 1)
        return slow, limiter._interval()

    slow, restored = asyncio.run(run())
    assert slow == pytest.approx(0.05)
    assert restored == 0.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360.0), ("120ms", 0.12), ("1.5s", 1.5), ("1h2m3s", 3723.0), ("12", 12.0)],
)
def test_durations_of_headers_are_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "2026-01-01T00:00:00Z"])
def test_other_texts_are_no_durations(text: str) -> None:
    assert parse_duration(text) is None
