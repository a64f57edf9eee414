"""The journal survives kills at any byte, and no two runs share it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biod2c_core.errors import InputError
from biod2c_core.llm_api import Journal, request_key


def test_entries_and_money_are_found_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.add({"key": "a", "text": "é\n\ud83d", "cost": 0.25})
        in_memory = journal.get("a")
        journal.add({"cost": 0.5, "failed": "timeout"})
        journal.add({"key": "b", "text": "", "cost": None})
    with Journal(tmp_path / "j.jsonl") as journal:
        assert journal.spent == 0.75
        assert len(journal) == 2
        assert journal.get("a") == in_memory
        assert journal.get("a")["text"].startswith("é\n")
        assert journal.get("c") is None


def test_a_cut_at_any_byte_loses_only_the_last_entry(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        for name in "abc":
            journal.add({"key": name, "text": "täxt", "cost": 1.0})
    whole = path.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == 10]  # whole without its newline, too
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert len(journal) == sum(end <= cut for end in ends)
            journal.add({"key": "new", "text": "", "cost": 0.0})
        lines = path.read_text("utf-8").splitlines()
        assert json.loads(lines[-1])["key"] == "new"


def test_a_second_run_is_turned_away(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j.jsonl"),
        pytest.raises(InputError, match="in use by another run"),
    ):
        Journal(tmp_path / "j.jsonl")
    Journal(tmp_path / "j.jsonl").close()


@pytest.mark.parametrize("line", ["not json", "[1]", "7", '{"cost": "much"}'])
def test_a_foreign_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"key": "a"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"j\.jsonl:2"):
        Journal(path)


def test_keys_depend_on_every_part() -> None:
    keys = {request_key("m", {"a": 1}, t) for t in ("x", "y")} | {request_key("m", {"a": 2}, "x")}
    assert len(keys) == 3
    assert request_key({"a": 1, "b": 2}) == request_key({"b": 2, "a": 1})
