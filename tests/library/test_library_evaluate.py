"""``biod2c.evaluate``: what the command line computes, in one call."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import biod2c
from biod2c_core.errors import InputError


def test_a_loaded_model_a_folder_and_its_predictions_score_alike(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    model = biod2c.load(checkpoint, "cpu")
    plain = biod2c.evaluate(data, model, split=None)
    named = biod2c.evaluate(data, checkpoint, split=None, output=tmp_path / "run", device="cpu")
    scored = biod2c.evaluate(data, split=None, predictions=tmp_path / "run" / "predictions.jsonl")
    assert plain.estimates == named.estimates == scored.estimates
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["scores"] == plain.to_dict()["scores"]
    assert written["data"]["questions"] == len(biod2c.read_records(data))


def test_nothing_is_left_where_nothing_is_asked_for(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    biod2c.evaluate(data, biod2c.load(checkpoint, "cpu"), split=None)
    assert list(tmp_path.iterdir()) == []


def test_predictions_of_a_loaded_model_are_resumed(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.jsonl"
    model = biod2c.load(checkpoint, "cpu")
    whole = biod2c.evaluate(data, model, split=None, predictions=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    again = biod2c.evaluate(data, split=None, predictions=path, device="cpu")  # by its manifest
    assert again.estimates == whole.estimates
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(lines)


class Mine:
    """A model of somebody else's."""

    name, identity = "mine", "1"

    def answer_images(self, images: Any, questions: Any) -> list[Any]:
        return [SimpleNamespace(text="yes", confidence=None) for _ in questions]


def test_any_object_that_answers_is_evaluated(data: Path) -> None:
    found = biod2c.evaluate(data, Mine(), split=None, controls=True, limit=8)
    assert found.controls is not None
    assert found.controls.groups[0].difference["other"].difference == 0
    assert found.controls.missing == {"none": "mine takes no question without a picture"}
    assert found.quick_look_of == len(biod2c.read_records(data))


def test_what_does_not_fit_is_an_input_error(data: Path) -> None:
    with pytest.raises(InputError, match="no record of split 'validation'"):
        biod2c.evaluate(data, split="validation")
    with pytest.raises(InputError, match="unknown"):
        biod2c.evaluate(data, split=None, profile="nothing")
