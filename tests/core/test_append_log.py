"""The append-only log: whole after a cut at any byte, one run at a time, any text."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from biod2c_core import locks
from biod2c_core.append_log import AppendLog, ends_torn, read_rows, whole_characters
from biod2c_core.atomic import atomic_open
from biod2c_core.errors import InputError

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=4)  # lone surrogates too
ROWS = st.lists(
    st.dictionaries(ANY_TEXT, ANY_TEXT | st.integers() | st.none(), max_size=2)
    | st.lists(st.integers(), max_size=2)
    | ANY_TEXT,
    max_size=3,
)


def values(path: Path) -> list[Any]:
    return [value for _, value in read_rows(path)]


def joined(value: Any) -> Any:
    """What JSON makes of a value: two surrogates that belong together become one character."""
    return json.loads(json.dumps(value))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS)
@example(rows=[{"a": "\ud83d"}, "\udce9", ["x", "\n\u2028"], "}"])
def test_a_cut_at_any_byte_leaves_exactly_the_complete_lines(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "log.jsonl"
    path.unlink(missing_ok=True)
    with AppendLog(path) as log:
        log.append(rows)
    whole = path.read_bytes()
    whole.decode("utf-8")
    expected = [joined(row) for row in rows]
    assert values(path) == expected
    ends = [index for index, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = expected[: sum(end <= cut for end in ends)]
        torn = cut not in (0, *ends, *(end + 1 for end in ends))
        assert ends_torn(path) == torn
        assert values(path) == complete  # while another run writes it
        with AppendLog(path) as log:
            assert [value for _, value in log.rows()] == complete
            log.append([{"new": 1}])
        assert values(path) == [*complete, {"new": 1}]


@pytest.mark.parametrize("tail", [b"12", b"true", b"null", b"-"])
def test_a_number_or_a_word_could_go_on(tmp_path: Path, tail: bytes) -> None:
    """What may be a part is never taken for the whole."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n' + tail)
    assert values(path) == [{"a": 1}]
    with pytest.raises(InputError, match="not JSON"):
        AppendLog(path)
    assert path.read_bytes().endswith(tail)


def test_a_file_of_something_else_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, without a newline")
    with pytest.raises(InputError, match="not JSON"):
        AppendLog(path)
    assert path.read_text() == "my notes, without a newline"


def test_what_a_power_cut_left_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n' + bytes(200_000))
    with AppendLog(path) as log:
        log.append(["b"])
    assert values(path) == [{"a": 1}, "b"]


def test_a_broken_line_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b\n{"c": 1}\n')
    with pytest.raises(InputError, match=r"log\.jsonl:2: not JSON"):
        values(path)


def test_a_second_run_is_turned_away_or_waits(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    done: list[str] = []

    def second() -> None:
        with AppendLog(path, wait=True) as log:
            done.append("second")
            log.append([2])

    with AppendLog(path) as log:
        with pytest.raises(InputError, match="in use by another run"):
            AppendLog(path)
        thread = threading.Thread(target=second)
        thread.start()
        log.append([1])
        done.append("first")
    thread.join(10)
    assert done == ["first", "second"]
    assert values(path) == [1, 2]


def _refuse(number: int) -> Callable[..., None]:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_a_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", _refuse(errno.ENOSYS))
    with AppendLog(tmp_path / "log.jsonl") as log:
        log.append([{"a": 1}])
    monkeypatch.setattr(locks, "fcntl", None)  # Windows
    with AppendLog(tmp_path / "log.jsonl") as log:
        log.append([{"b": 1}])
    assert values(tmp_path / "log.jsonl") == [{"a": 1}, {"b": 1}]


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    class Full:
        """Takes seven bytes, then no more."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 7

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            if not self.left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count, self.left = self.file.write(data[: self.left]), 0
            return count

    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        log.append([{"a": 1}])
        real, log._file = log._file, Full(log._file)
        with pytest.raises(OSError, match="space"):
            log.append([{"b": "long enough"}])
        log._file = real
        log.append([{"c": 1}])
    assert values(path) == [{"a": 1}, {"c": 1}]


@pytest.mark.parametrize(("sync_every", "synced"), [(None, 0), (0.0, 3), (3600.0, 1)])
def test_lines_are_durable_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync_every: float | None, synced: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with AppendLog(tmp_path / "log.jsonl", sync_every=sync_every) as log:
        for number in range(3):
            log.append([[number]])
    assert len(calls) == synced


def test_lines_after_a_count_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        log.append([{"step": step} for step in range(5)])
        log.keep(2)
        log.append([{"step": 7}])
    assert values(path) == [{"step": 0}, {"step": 1}, {"step": 7}]


def test_text_that_is_not_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    with atomic_open(tmp_path / "rows.jsonl") as file:
        file.write(json.dumps({"name": "caf\udce9"}, ensure_ascii=False) + "\n")
    assert values(tmp_path / "rows.jsonl") == [{"name": "caf\udce9"}]
    assert whole_characters("a\ud83d\ude00b\ud83d é") == "a\U0001f600b\ufffd é"
