"""The Batch API against the fake endpoint: killed anywhere, nothing is submitted or paid twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from biod2c_core.errors import BudgetError, EndpointError, InputError
from biod2c_core.llm_api import Client, Journal, Price
from biod2c_core.llm_api import batch as batch_module
from biod2c_core.llm_api.batch import Batches, BatchRequest
from biod2c_core.testing.scripted_endpoint import FakeEndpoint

KEY = "sk-a-very-secret-key"


def requests(*names: str) -> list[BatchRequest]:
    return [BatchRequest(name, [{"role": "user", "content": name * 8}]) for name in names]


class Run:
    """One run's files, and steps on them as separate processes would take them."""

    def __init__(self, folder: Path, endpoint: FakeEndpoint, **options: Any) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.options = {"price": Price(1.0, 10.0), "max_tokens": 100} | options

    def step(self, name: str, *arguments: Any) -> Any:
        async def run() -> Any:
            with Journal(self.folder / "j.jsonl") as journal:
                url = self.endpoint.base_url
                async with Client("m", url, KEY, journal=journal, **self.options) as client:
                    batches = Batches(client, journal, self.folder / "b.json")
                    return await getattr(batches, name)(*arguments)

        return asyncio.run(run())

    def answered(self) -> dict[str, str]:
        with Journal(self.folder / "j.jsonl") as journal:
            return {k: e["text"] for k in "abcdef" if (e := journal.get(k)) is not None}

    def spent(self) -> float:
        with Journal(self.folder / "j.jsonl") as journal:
            return journal.spent


def test_submit_status_collect(tmp_path: Path) -> None:
    with FakeEndpoint(reply="four" * 4) as endpoint:
        run = Run(tmp_path, endpoint)
        assert run.step("submit", requests("a", "b", "c")) == 3
        assert run.step("submit", requests("a", "b", "c", "d")) == 1
        assert [p.status for p in run.step("refresh").parts] == ["in_progress"] * 2
        assert run.step("collect") == {}
        endpoint.batches.finish_all(refuse=frozenset({"b"}))
        failures = run.step("collect")
        assert list(failures) == ["b"]
        assert "scripted 400" in failures["b"]
        assert run.answered() == dict.fromkeys("acd", "four" * 4)
        assert run.spent() == pytest.approx(3 * (2 * 1.0 + 4 * 10.0) / 1e6 / 2)  # half the price
        assert run.step("collect") == failures  # the same answer twice
        assert run.step("submit", requests("a", "b", "c", "d")) == 1  # only what failed
        assert run.step("collect") == {}  # it is on its way again


def test_an_expired_batch_gives_what_it_has_and_the_rest_is_asked_again(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests("a", "b", "c", "d"))
        endpoint.batches.finish_all(expire=True)
        assert set(run.step("collect")) == {"c", "d"}
        assert set(run.answered()) == {"a", "b"}
        assert run.step("submit", requests("a", "b", "c", "d")) == 2


def test_large_sets_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "MOST_REQUESTS", 2)
    with FakeEndpoint() as endpoint:
        run = Run(tmp_path, endpoint)
        assert run.step("submit", requests(*"abcde")) == 5
        assert [len(part.keys) for part in run.step("refresh").parts] == [2, 2, 1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_submission_never_submits_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    original = Batches._call

    async def killed(self: Any, group: str, method: str, *args: Any, **options: Any) -> Any:
        if (group, method) == ("batches", "create"):
            if moment == "after":
                await original(self, group, method, *args, **options)
            raise SystemExit("killed")
        return await original(self, group, method, *args, **options)

    with FakeEndpoint() as endpoint:
        run = Run(tmp_path, endpoint)
        monkeypatch.setattr(Batches, "_call", killed)
        with pytest.raises(SystemExit):
            run.step("submit", requests("a", "b"))
        monkeypatch.undo()
        assert run.step("submit", requests("a", "b")) == (0 if moment == "after" else 2)
        assert len(endpoint.batches.batches) == 1
        endpoint.batches.finish_all()
        assert run.step("collect") == {}
        assert set(run.answered()) == {"a", "b"}


def test_a_kill_during_collection_counts_no_result_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, count = Journal.add, 0

    def killed(self: Journal, entry: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise SystemExit("killed")
        add(self, entry)

    with FakeEndpoint() as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests(*"abcd"))
        endpoint.batches.finish_all()
        monkeypatch.setattr(Journal, "add", killed)
        with pytest.raises(SystemExit):
            run.step("collect")
        monkeypatch.undo()
        assert set(run.answered()) == {"a", "b"}
        run.step("collect")
        assert set(run.answered()) == set("abcd")
        assert len((tmp_path / "j.jsonl").read_text().splitlines()) == 4


def test_a_batch_over_the_budget_is_not_submitted(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        run = Run(tmp_path, endpoint, budget=0.0012)
        run.step("submit", requests("a"))  # about 0.0005 at most
        run.step("submit", requests("b"))
        with pytest.raises(BudgetError, match=r"budget is 0\.0012"):
            run.step("submit", requests("c"))
        assert len(endpoint.batches.batches) == 2


def test_an_endpoint_without_batches_is_one_error(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        endpoint.batches.handle = lambda *_: (404, {"error": {"message": f"no {KEY}"}})
        with pytest.raises(EndpointError) as caught:
            Run(tmp_path, endpoint).step("submit", requests("a"))
    assert KEY not in f"{caught.value}{caught.value.__context__}"


@pytest.mark.parametrize("reply", ["fine", [], {}, {"id": 7}, None])
@pytest.mark.parametrize("place", ["files", "batches"])
def test_a_reply_that_names_nothing_is_one_error(tmp_path: Path, place: str, reply: Any) -> None:
    with FakeEndpoint() as endpoint:
        honest = endpoint.batches.handle

        def handle(method: str, path: str, *rest: Any) -> Any:
            strange = method == "POST" and path.strip("/").endswith(place)
            return (200, reply) if strange else honest(method, path, *rest)

        endpoint.batches.handle = handle
        with pytest.raises(EndpointError, match="not a JSON object with an id"):
            Run(tmp_path, endpoint).step("submit", requests("a"))


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"run": "x", "parts": [{}]}')
    with FakeEndpoint() as endpoint, pytest.raises(InputError, match=r"b\.json"):
        Run(tmp_path, endpoint).step("refresh")


def test_collecting_twice_gives_the_same_and_charges_once(tmp_path: Path) -> None:
    with FakeEndpoint(reply="four" * 4) as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests("a", "b"))
        endpoint.batches.finish_all()
        run.step("collect")
        first = (run.answered(), run.spent(), (tmp_path / "j.jsonl").read_bytes())
        state = batch_module.BatchState.load(tmp_path / "b.json")
        assert run.step("collect") == {}
        for part in state.parts:
            part.status = "completed"  # a kill came before the state was saved
        state.save(tmp_path / "b.json")
        run.step("collect")
        assert (run.answered(), run.spent(), (tmp_path / "j.jsonl").read_bytes()) == first


def test_what_was_asked_live_meanwhile_is_charged_twice_and_answered_once(tmp_path: Path) -> None:
    with FakeEndpoint(reply="four" * 4) as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests("a"))
        with Journal(tmp_path / "j.jsonl") as journal:
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            journal.add(
                {"key": "a", "text": "live", "usage": usage, "cost": 1.0, "truncated": False}
            )
        endpoint.batches.finish_all()
        for _ in range(2):
            run.step("collect")
            assert run.answered() == {"a": "live"}
            assert 1.0 < run.spent() < 1.1


def test_results_that_cannot_be_used_are_counted_and_the_others_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeEndpoint(reply="four" * 4) as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests("a", "b"))
        endpoint.batches.finish_all()
        (batch,) = endpoint.batches.batches.values()
        name = batch["output_file_id"]
        good = endpoint.batches.files[name].splitlines()[0]
        strange = [
            b"{",
            b"[" * 100_000,
            b"7",
            b"{}",
            b'{"custom_id": "not ours"}',
            b'{"custom_id": []}',
        ]
        endpoint.batches.files[name] = b"\n".join([*strange[:5], good, good])
        assert list(run.step("collect")) == ["b"]
        assert run.answered() == {"a": "four" * 4}
        assert "results that cannot be used: 5" in caplog.text


def test_a_batch_of_the_scripted_endpoint_is_completed_by_itself(tmp_path: Path) -> None:
    with FakeEndpoint(reply="four" * 4, batch_seconds=0.0) as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests("a"))
        assert run.step("collect") == {}
        assert run.answered() == {"a": "four" * 4}


def test_answers_that_the_journal_has_lost_are_collected_again(tmp_path: Path) -> None:
    """A folder that is removed in the middle leaves a state that calls them collected."""
    with FakeEndpoint(reply="four" * 4, batch_seconds=0.0) as endpoint:
        run = Run(tmp_path, endpoint)
        run.step("submit", requests("a", "b"))
        assert run.step("collect") == {}
        (tmp_path / "j.jsonl").unlink()
        assert run.step("collect") == {}
        assert run.answered() == {"a": "four" * 4, "b": "four" * 4}
