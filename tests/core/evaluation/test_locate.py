"""Data sets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from biod2c_core.errors import InputError
from biod2c_core.evaluation.locate import find_data


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["vqa-rad", "VQA_RAD", "rad-vqa"])
def test_a_data_set_by_any_spelling(
    name: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOD2C_DATA", str(data_root))
    assert find_data(name) == data_root / "vqa_rad"


def test_a_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slake").mkdir()
    assert find_data("slake") == Path("slake")
    assert find_data("no such file.jsonl") == Path("no such file.jsonl")


def test_a_known_name_without_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIOD2C_DATA", raising=False)
    with pytest.raises(InputError, match="BIOD2C_DATA is not set"):
        find_data("PathVQA")
    monkeypatch.setenv("BIOD2C_DATA", str(tmp_path))
    with pytest.raises(InputError, match="no path-vqa data set among the folders"):
        find_data("PathVQA")
