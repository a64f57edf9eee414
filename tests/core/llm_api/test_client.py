"""The client against the scripted endpoint: every kind of trouble, and what it costs."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from biod2c_core.errors import BudgetError, EndpointError, InputError
from biod2c_core.llm_api import (
    CallFailed,
    Client,
    Completion,
    Journal,
    Price,
    run_all,
)
from biod2c_core.testing.scripted_endpoint import FAULTS, FakeEndpoint

KEY = "sk-a-very-secret-key"
PRICE = Price(input=1.0, output=10.0)
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biod2c_core.llm_api.client._FIRST_BACKOFF", 0.001)
    monkeypatch.setattr("biod2c_core.llm_api.client._LONGEST_BACKOFF", 0.01)


def ask(endpoint: FakeEndpoint, *texts: str, **options: Any) -> list[Completion | Exception]:
    """Ask each text through one client; an exception stands for a call that failed."""
    schema, one_by_one = options.pop("schema", None), options.pop("one_by_one", False)
    options = {"price": PRICE, "timeout": 5.0, "max_tokens": 100} | options

    async def run() -> list[Any]:
        async with Client("m", endpoint.base_url, KEY, **options) as client:
            calls = [client.complete(message(text), schema) for text in texts]
            if not one_by_one:
                return await asyncio.gather(*calls, return_exceptions=True)
            outcomes = []
            for call in calls:
                outcomes += await asyncio.gather(call, return_exceptions=True)
            return outcomes

    return asyncio.run(run())


def message(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_an_answer_has_text_usage_and_cost() -> None:
    with FakeEndpoint(reply="four char" * 4) as endpoint:
        (answer,) = ask(endpoint, "x" * 40)
    assert isinstance(answer, Completion)
    assert answer.text == "four char" * 4
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 9)
    assert answer.cost == pytest.approx((10 + 90) / 1e6)
    assert (answer.attempts, answer.cached, answer.truncated) == (1, False, False)


@pytest.mark.parametrize("play", ["429", "500", "503", "cut", "garbage", "empty"])
def test_passing_trouble_is_retried(play: str) -> None:
    with FakeEndpoint(script=[play, play], retry_after=0.01) as endpoint:
        (answer,) = ask(endpoint, "hello")
    assert isinstance(answer, Completion), answer
    assert answer.attempts == 3


@pytest.mark.parametrize("play", ["timeout", "trickle"])
def test_a_request_has_a_time_limit_from_first_to_last_byte(play: str) -> None:
    with FakeEndpoint(script=[play]) as endpoint:
        (answer,) = ask(endpoint, "hello", timeout=1.0)
    assert isinstance(answer, Completion), answer
    assert answer.attempts == 2


def test_trouble_without_end_gives_a_reason() -> None:
    with FakeEndpoint(script=["500"] * 3) as endpoint:
        (outcome,) = ask(endpoint, "hello", max_attempts=3)
    assert isinstance(outcome, CallFailed)
    assert (outcome.kind, outcome.attempts) == ("server", 3)
    assert "HTTP 500" in outcome.reason


def test_being_turned_away_does_not_use_up_attempts() -> None:
    with FakeEndpoint(script=["429"] * 8, retry_after=0.01) as endpoint:
        (answer,) = ask(endpoint, "hello", max_attempts=2)
    assert isinstance(answer, Completion), answer
    assert answer.attempts == 9


def test_retry_after_is_obeyed() -> None:
    with FakeEndpoint(script=["429"], retry_after=0.4) as endpoint:
        ask(endpoint, "hello")
    first, second = (event["time"] for event in endpoint.received())
    assert second - first >= 0.4


def test_a_refusal_is_final_and_not_paid_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal, FakeEndpoint(script=["refusal"]) as endpoint:
        outcomes = [ask(endpoint, "hello", journal=journal)[0] for _ in range(2)]
    assert [getattr(outcome, "kind", None) for outcome in outcomes] == ["refusal", "refusal"]
    assert len(endpoint.received()) == 1


@pytest.mark.parametrize(("play", "remedy"), [("401", "OPENAI_API_KEY"), ("quota", "credit")])
def test_what_no_retry_can_mend_stops_the_run(play: str, remedy: str) -> None:
    with FakeEndpoint(script=[play] * 9) as endpoint:
        (outcome,) = ask(endpoint, "hello")
    assert isinstance(outcome, EndpointError)
    assert not isinstance(outcome, CallFailed)
    assert remedy in str(outcome)
    assert len(endpoint.received()) == 1


def test_an_endpoint_that_is_down_stops_the_run_instead_of_failing_every_item() -> None:
    with FakeEndpoint() as endpoint:
        pass  # its port is closed again
    outcomes = ask(endpoint, *(str(i) for i in range(30)), max_attempts=2)
    stopped = [o for o in outcomes if not isinstance(o, CallFailed)]
    assert stopped
    assert all(isinstance(o, EndpointError) and "in a row" in str(o) for o in stopped)


def test_structured_output_is_asked_for_and_left_out_where_it_is_unknown() -> None:
    with FakeEndpoint(structured=False) as endpoint:
        answers = ask(endpoint, "a", "b", "c", "d", schema=SCHEMA, one_by_one=True)
    assert all(isinstance(answer, Completion) for answer in answers)
    plays = [event["play"] for event in endpoint.received()]
    assert plays == ["400", "ok", "ok", "ok", "ok"]  # learnt once


def test_one_bad_request_does_not_end_structured_output() -> None:
    with FakeEndpoint(script=["400", "400", "ok"]) as endpoint:
        answers = ask(endpoint, "bad", "good", schema=SCHEMA, one_by_one=True)
    assert isinstance(answers[0], CallFailed)
    assert answers[0].kind == "bad_request"
    assert isinstance(answers[1], Completion)
    assert len(endpoint.received()) == 3


def test_the_newer_name_of_the_token_limit_is_learnt() -> None:
    def reply(request: dict[str, Any]) -> str:
        return "new" if "max_completion_tokens" in request else "old"

    class Picky(FakeEndpoint):
        def _choose(self, request: Any, body: dict[str, Any]) -> str:
            return "400" if "max_tokens" in body else "ok"

        async def _play(self, play: str, *rest: Any) -> bool:
            if play == "400":
                error = {"message": "use max_completion_tokens instead", "code": None}
                body = json.dumps({"error": error}).encode()
                writer = rest[-1]
                writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                return True
            return await super()._play(play, *rest)

    with Picky(reply=reply) as endpoint:
        answers = ask(endpoint, "a", "b", schema=SCHEMA, one_by_one=True)
    assert [getattr(answer, "text", answer) for answer in answers] == ["new", "new"]


def test_journalled_answers_cost_nothing(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        with Journal(tmp_path / "j.jsonl") as journal:
            first = ask(endpoint, "a", "b", journal=journal)
        with Journal(tmp_path / "j.jsonl") as journal:
            second = ask(endpoint, "a", "b", journal=journal)
            assert journal.spent == pytest.approx(sum(a.cost for a in first))
    assert [a.text for a in second] == [a.text for a in first]
    assert all(answer.cached for answer in second)
    assert len(endpoint.received()) == 2


def test_where_no_answer_can_be_kept_no_more_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in flight are lost, as after a kill; those that wait for their turn are not sent."""
    with Journal(tmp_path / "j.jsonl") as journal, FakeEndpoint(latency=0.02) as endpoint:

        def full(_entry: dict[str, Any]) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(journal, "add", full)
        outcomes = ask(endpoint, *"abcdefgh", journal=journal, max_in_flight=4)
        assert [type(outcome) for outcome in outcomes] == [OSError] * 8
        assert len(endpoint.received()) == 4


def test_a_budget_is_not_overdrawn_by_many_in_flight(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal, FakeEndpoint(latency=0.02) as endpoint:
        texts = [str(number) * 40 for number in range(40)]
        outcomes = ask(endpoint, *texts, journal=journal, budget=0.01, max_in_flight=16)
        answered = [o for o in outcomes if isinstance(o, Completion)]
        refused = [o for o in outcomes if isinstance(o, BudgetError)]
        assert len(answered) + len(refused) == 40
        assert answered
        assert refused
        assert 0.008 < journal.spent <= 0.01
        assert len(endpoint.received()) == len(answered)


def test_timeouts_count_against_the_budget(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal, FakeEndpoint(script=["timeout"]) as endpoint:
        (answer,) = ask(endpoint, "x" * 360, journal=journal, timeout=0.3)
        assert journal.spent > answer.cost


def test_a_budget_needs_a_known_price() -> None:
    with pytest.raises(InputError, match="the price of 'unheard-of'"):
        Client("unheard-of", "http://localhost:1/v1", KEY, budget=1.0)


def test_a_missing_key_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        Client("m", "http://localhost:1/v1")


@pytest.mark.parametrize("key", ["sk-secret two", "sk-sécret", "sk-secret\x00more"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with pytest.raises(InputError) as caught:
        Client("m", "http://localhost:1/v1", key)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://"])
def test_a_base_url_must_be_http(url: str) -> None:
    with pytest.raises(InputError, match="not an http"):
        Client("m", url, KEY)


@pytest.mark.parametrize("play", ["400", "401", "500", "quota"])
def test_an_endpoint_that_repeats_the_key_does_not_make_us_repeat_it(
    play: str, tmp_path: Path
) -> None:
    with (
        Journal(tmp_path / "j.jsonl") as journal,
        FakeEndpoint(script=[play] * 3) as endpoint,
    ):
        (outcome,) = ask(endpoint, "hello", journal=journal, max_attempts=2)
    assert "you sent" in str(outcome)  # the endpoint's message is shown, without the key
    assert KEY not in f"{outcome!r} {outcome} {outcome.__cause__} {outcome.__context__}"
    assert KEY not in (tmp_path / "j.jsonl").read_text()


def test_an_answer_that_holds_the_key_is_cleaned(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j.jsonl") as journal,
        FakeEndpoint(reply=f"it is {KEY}") as endpoint,
    ):
        (answer,) = ask(endpoint, "hello", journal=journal)
    assert answer.text == "it is [key]"
    assert KEY not in (tmp_path / "j.jsonl").read_text()


def test_a_fifth_of_faults_leaves_every_call_answered_or_failed_with_a_reason() -> None:
    with FakeEndpoint(fault_rate=0.2, retry_after=0.01, seed=3) as endpoint:
        texts = [str(number) for number in range(150)]
        outcomes = ask(endpoint, *texts, max_in_flight=32, timeout=2.0)
    answered = [o for o in outcomes if isinstance(o, Completion)]
    failed = [o for o in outcomes if isinstance(o, CallFailed)]
    assert len(answered) + len(failed) == 150
    assert len(answered) > 135
    assert {failure.kind for failure in failed} <= {"refusal"}
    played = {event["play"] for event in endpoint.received()}
    assert played >= set(FAULTS)


def collect(count: int, work: Callable[[int], Awaitable[None]], workers: int) -> None:
    asyncio.run(run_all(range(count), work, workers))


def test_run_all_does_everything_with_at_most_that_many_at_once() -> None:
    running, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        done.append(item)
        running -= 1

    collect(50, work, 7)
    assert sorted(done) == list(range(50))
    assert most == 7


def test_the_first_error_starts_nothing_new_and_finishes_what_is_in_flight() -> None:
    started, finished = [], []

    async def work(item: int) -> None:
        started.append(item)
        await asyncio.sleep(0.01 if item == 0 else 0.05)
        if item == 0:
            raise BudgetError("none left")
        finished.append(item)

    with pytest.raises(BudgetError):
        collect(100, work, 8)
    assert started == list(range(8))
    assert finished == list(range(1, 8))


def test_sigterm_afterwards_does_what_it_did_before() -> None:
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        collect(2, lambda _: asyncio.sleep(0), 1)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped == [signal.SIGTERM]
