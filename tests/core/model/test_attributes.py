"""Yes or no about what an open question tells: recognized, concluded, and never in contradiction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_models

from biod2c_core.errors import BioD2CError
from biod2c_core.inference.serving.batching import Watch
from biod2c_core.model.beyond.attributes import (
    FILE,
    Attributes,
    Condition,
    conclude,
    load_attributes,
)
from biod2c_core.model.checkpoints.card import CardFacts
from biod2c_core.model.checkpoints.export import export
from biod2c_core.model.checkpoints.folder import fingerprint
from biod2c_core.model.generation import Answer, Answerer

MODALITY, ORGAN = "What modality is this?", "What organ is shown?"
CONTENT = [
    {"question": MODALITY,
     "values": {"CT": ["a CT scan", "computed tomography"], "MRI": ["an MR image"], "a drawing": []},
     "unless": {"a drawing": ["a scan", "medical"]}},
    {"question": ORGAN, "values": {"chest": ["the thorax"], "brain": ["the head"]}},
]  # fmt: skip
CT, MRI, CHEST = Condition(MODALITY, "CT"), Condition(MODALITY, "MRI"), Condition(ORGAN, "chest")
DRAWING, MEDICAL = Condition(MODALITY, "a drawing"), Condition(MODALITY, "a drawing", holds=False)


@pytest.fixture
def attributes(tmp_path: Path) -> Attributes:
    (tmp_path / FILE).write_text(json.dumps(CONTENT))
    loaded = load_attributes(tmp_path)
    assert loaded is not None
    return loaded


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(checkpoint, tmp_path / "model")
    (copy / FILE).write_text(json.dumps(CONTENT))
    return copy


@pytest.mark.parametrize(
    ("question", "meant"),
    [
        ("Is this a CT?", [CT]),
        ("ct?", [CT]),
        ("Could this picture be a CT scan", [CT]),
        ("Was it made by computed tomography?", [CT]),
        ("Does this look like an MR image?", [MRI]),
        ("Is this a CT of the chest?", [CT, CHEST]),
        ("Does this image show the thorax?", [CHEST]),
        ("Is this a drawing?", [DRAWING]),
        ("Is this a medical image?", [MEDICAL]),
        ("Is it a medical picture of the chest?", [MEDICAL, CHEST]),
        ("Is this not a medical image?", []),
        ("Is this a medical CT?", []),
        ("Is this a CT or an MRI?", []),
        ("Is this not a CT?", []),
        ("Is this a normal CT?", []),
        ("Was contrast used in this CT?", []),
        ("Can you see the brain?", []),  # a picture shows more than it is of
        ("What is shown?", []),
        ("Is this a picture?", []),
        ("", []),
        ("CT " * 200, []),
    ],
)
def test_what_a_question_comes_down_to(
    attributes: Attributes, question: str, meant: list[Condition]
) -> None:
    assert attributes.asked_in(question) == meant


def test_yes_needs_all_and_no_one() -> None:
    assert conclude([CT], [("ct", 0.9)]) == (True, 0.9)
    assert conclude([CT], [("mri", 0.8)]) == (False, 0.8)
    assert conclude([CT, CHEST], [("CT", 0.9), ("chest", 0.5)]) == (True, 0.45)
    assert conclude([CT, CHEST], [("CT", 0.9), ("brain", 0.6)]) == (False, 0.6)


def test_what_a_name_rules_out_is_concluded_the_other_way_round() -> None:
    assert conclude([MEDICAL], [("CT", 0.9)]) == (True, 0.9)
    assert conclude([MEDICAL], [("A drawing.", 0.7)]) == (False, 0.7)
    assert conclude([MEDICAL, CHEST], [("MRI", 0.8), ("chest", 0.5)]) == (True, 0.4)
    assert conclude([MEDICAL, CHEST], [("MRI", 0.8), ("brain", 0.6)]) == (False, 0.6)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, float]]:
    """What the model says to each question."""
    replies: dict[str, tuple[str, float]] = {}

    def answered(self: Any, image: Any, questions: Any, *_: Any, **options: Any) -> list[Answer]:
        return [Answer(*replies[text], ids=(7, 2)) for _, text in questions]

    monkeypatch.setattr(Answerer, "_generate", answered)
    return replies


def test_yes_and_no_follow_the_open_answer(
    folder: Path, says: dict[str, tuple[str, float]]
) -> None:
    answerer = Answerer.load(str(folder), "cpu")
    says |= {"Is this a CT?": ("yes", 0.9), "Is this an MRI?": ("yes", 0.8)}
    says |= {"Is this the head?": ("maybe", 0.7), "Is it healthy?": ("yes", 0.6)}
    says[MODALITY] = ("mri", 0.95)
    picture = tiny_models.make_image(0)
    given = answerer.answer_images([picture], [(0, text) for text in list(says)[:4]])
    assert [answer.text for answer in given] == ["no", "yes", "maybe", "yes"]
    assert [answer.confidence for answer in given] == [0.95, 0.95, 0.7, 0.6]
    no = answerer.processor.tokenizer("no", add_special_tokens=False)["input_ids"]
    assert given[0].ids == (*no, 2)  # what maps of attention force
    assert given[3].ids == (7, 2)


def test_a_growing_answer_shows_no_yes_that_becomes_a_no(folder: Path) -> None:
    answerer = Answerer.load(str(folder), "cpu")
    jobs: Any = [SimpleNamespace(question=q, stream=True) for q in ("Is this a CT?", "What is it?")]
    assert Watch(answerer, jobs).growing == [False, True]


def test_they_belong_to_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    exported = export(str(folder), tmp_path / "out", CardFacts())
    assert json.loads((exported / FILE).read_text()) == CONTENT
    before = fingerprint(folder)
    (folder / FILE).write_text(json.dumps(CONTENT[:1]))
    assert fingerprint(folder) != before
    (folder / FILE).unlink()
    assert Answerer.load(str(folder), "cpu").rests_on("Is this a CT?") == []


@pytest.mark.parametrize(
    "content",
    ['{"a": 1}', "[1]", '[{"question": "", "values": {}}]', '[{"question": "a", "values": {"?": []}}]',
     '[{"question": "a", "values": {"b": [1]}}]', '[{"question": "a", "values": {}, "unless": []}]',
     '[{"question": "a", "values": {}, "unless": {"b": ["c"]}}]',
     '[{"question": "a", "values": {"b": ["c"], "d": ["C"]}}]',
     '[{"question": "a", "values": {"b": ["c"]}, "unless": {"b": ["c"]}}]',
     '[{"question": "a", "values": {"b": "c"}}]',
     '[{"question": "a", "values": {}}, {"question": "a", "values": {}}]',
     '[{"question": "\\ud800", "values": {"b": ["c"]}}]', "[" * 1000],
)  # fmt: skip
def test_a_damaged_file_is_one_line(folder: Path, content: str) -> None:
    (folder / FILE).write_text(content)
    with pytest.raises(BioD2CError, match=r"attributes\.json is not a list of questions"):
        Answerer.load(str(folder), "cpu")
