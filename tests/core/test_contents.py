"""Checksums of files: all bytes, read once while nothing changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from biod2c_core import contents
from biod2c_core.contents import CACHE_FILE, file_checksum, pictures_checksum

LONG_AGO = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read; each file is large enough to be remembered on disk."""
    seen: list[str] = []
    read = contents._read

    def noted(name: str) -> str:
        seen.append(Path(name).name)
        return read(name)

    monkeypatch.setattr(contents, "_read", noted)
    monkeypatch.setattr(contents, "_known", {})
    monkeypatch.setattr(contents, "_REMEMBERED", 1)
    monkeypatch.setattr(contents, "_SETTLED", -1.0)
    monkeypatch.setenv("BIOD2C_CACHE", str(tmp_path / "cache"))
    return seen


def test_a_file_is_read_once_also_by_later_processes(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    assert [file_checksum(path), file_checksum(path)] == [expected] * 2
    monkeypatch.setattr(contents, "_known", {})  # as in a new process
    assert file_checksum(path) == expected
    assert reads == ["a"]
    path.write_bytes(b"WEIGHTS")
    os.utime(path, LONG_AGO)
    assert file_checksum(path) == hashlib.sha256(b"WEIGHTS").hexdigest()


@pytest.mark.parametrize("damage", ["", "[", "[1]", '{"x": 1}'])
def test_a_damaged_or_missing_cache_costs_time_only(
    tmp_path: Path, reads: list[str], damage: str
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / CACHE_FILE).write_text(damage)
    (tmp_path / "a").write_bytes(b"x")
    assert file_checksum(tmp_path / "a") == hashlib.sha256(b"x").hexdigest()


def test_what_was_changed_just_now_is_not_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_SETTLED", 60.0)
    (tmp_path / "a").write_bytes(b"x")
    file_checksum(tmp_path / "a")
    file_checksum(tmp_path / "a")
    assert reads == ["a", "a"]


def test_pictures_in_any_order_each_read_once(tmp_path: Path, reads: list[str]) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    pairs = [(name, tmp_path / name) for name in "aba"]
    first = pictures_checksum(pairs)
    assert first == pictures_checksum(reversed(pairs))
    assert sorted(reads) == ["a", "b"]
    assert first != pictures_checksum([("a", tmp_path / "b"), ("b", tmp_path / "a")])
    assert pictures_checksum([*pairs, ("c", tmp_path / "c")]) is None


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for name in ("device", "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            file_checksum(tmp_path / name)
    assert pictures_checksum([("a", tmp_path / "device")]) is None
