"""The sample records are whole, and made by the script beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import biod2c
from biod2c_core.model.checkpoints.folder import EMBEDDED, locate

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "examples" / "sample"


def test_the_sample_is_whole() -> None:
    for name, count in (("questions", 135), ("captions", 30)):
        records = biod2c.read_records(SAMPLE / f"{name}.jsonl")
        assert len(records) == count
        assert {record.split for record in records} == {"train", "validation", "test"}
        assert all((SAMPLE / record.image).is_file() for record in records)


def test_the_script_makes_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples"))
    make_sample = __import__("make_sample")
    for name in make_sample.PICTURES:
        (tmp_path / f"{name}.jpg").symlink_to(REPOSITORY / "examples" / f"{name}.jpg")
    monkeypatch.setattr(make_sample, "__file__", str(tmp_path / "make_sample.py"))
    make_sample.main()
    for name in ("questions.jsonl", "captions.jsonl"):
        assert (tmp_path / "sample" / name).read_text() == (SAMPLE / name).read_text()
    for name in ("make_sample", "make_examples"):
        sys.modules.pop(name, None)


def test_the_embedded_model_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate("biod2c-tiny") == EMBEDDED
    monkeypatch.chdir(tmp_path)
    (tmp_path / "biod2c-tiny").mkdir()  # a folder of that name is meant first
    with pytest.raises(biod2c.BioD2CError, match="has no config"):
        locate("biod2c-tiny")
