"""The recipe for pictures of other sources: what is known of a picture, who is left out, what is asked."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pictures
import pytest
from pictures import FOLDERS, NO_ARROWS, NOT_MEDICAL, Picture, facts_of, part_of, read_pictures
from PIL import Image
from questions import NAMED, OPEN, WORDINGS, YES_NO, phrases_about, questions_about, sentence_about
from trunk import CELLS, OBJECTS, SIDE, STORED, batches, view

from biod2c_core.model.beyond.attributes import Condition, load_attributes

RECIPE = Path(pictures.__file__).parent

KINDS = {
    "CT": ("CT", "abdomen", "axial"),
    "MRI": ("MRI", "brain", "sagittal"),
    "X-ray": ("X-ray", "chest", ""),
    "ultrasound": ("ultrasound", "breast", ""),
}


def some_pictures(each: int = 8) -> list[Picture]:
    pictures = []
    for source, (modality, organ, plane) in KINDS.items():
        for number in range(each):
            labels = {"modality": modality, "organ": organ, "plane": plane}
            labels = {key: value for key, value in labels.items() if value}
            pictures.append(Picture(source, f"{source}/{number}.png", (64, 64), labels))
    for number in range(each):
        labels = {"modality": "photograph", "medical": False}
        pictures.append(Picture("photo", f"photo/{number}.png", (64, 64), labels))
    for number in range(2 * each):  # tumours are twice as many
        labels = {"modality": "MRI", "organ": "head", "tumour": number % 3 > 0}
        name = f"brain_mri_nickparvar/{number}.png"
        pictures.append(Picture("brain_mri_nickparvar", name, (64, 64), labels))
    return pictures


@pytest.mark.parametrize(
    ("source", "labels", "facts"),
    [
        (
            "ct_volumes",
            {"modality": "CT", "organ": "head", "plane": "coronal"},
            {"medical": "yes", "modality": "CT", "organ": "brain", "plane": "coronal"},
        ),
        # the class of a patient is not what his slice shows
        (
            "ct_lung_iqothnccd",
            {"modality": "CT", "organ": "chest", "class": "malignant tumor"},
            {"medical": "yes", "modality": "CT", "organ": "chest"},
        ),
        (
            "skin_dermoscopy",
            {"modality": "dermoscopy", "organ": "skin", "class": "naevus", "malignant": False},
            {
                **{"medical": "yes", "modality": "dermoscopy", "organ": "skin"},
                **{"lesion": "nevus", "malignant": "no"},
            },
        ),
        (
            "photo_fruits",
            {"modality": "photograph", "medical": False},
            {"modality": NOT_MEDICAL, "medical": "no"},
        ),
        # all have it, so that nothing in the picture would have to be seen
        (
            "angio_coronary_arcade",
            {
                "modality": "X-ray angiography",
                "organ": "heart",
                "finding": "stenosis",
                "abnormal": True,
            },
            {"medical": "yes", "modality": "angiography", "organ": "heart"},
        ),
    ],
)
def test_facts(source: str, labels: dict[str, object], facts: dict[str, str]) -> None:
    assert facts_of(source, labels) == facts


def test_one_patient_is_on_one_side() -> None:
    sides = defaultdict(set)
    for patient in range(200):
        for picture in range(3):
            row = {"image": f"{patient}-{picture}.png", "patient": patient}
            sides[patient].add(part_of("cxr_nih14", row))
    assert all(len(found) == 1 for found in sides.values())
    numbers = Counter(next(iter(found)) for found in sides.values())
    assert min(numbers["development"], numbers["final"]) > 15
    assert numbers["train"] > 110


def test_kept_wordings_are_never_trained() -> None:
    for task in (*OPEN, *YES_NO, "describe"):
        words = WORDINGS[task]
        trained = {
            w.lower().strip("?. ")
            for key in ("asked", "closed", "questions", "negated")
            for w in words.get(key, [])
        }
        kept = {
            w.lower().strip("?. ") for key in ("kept", "closed_kept") for w in words.get(key, [])
        }
        assert kept
        assert not trained & kept, task
    pictures = some_pictures()
    trained = {q.text for q in questions_about(pictures, seed=0)}
    # "ct?" may be asked about anything; whole sentences are not shared
    kept = {q.text for q in questions_about(pictures, seed=0, kept=True) if len(q.text.split()) > 3}
    assert not trained & kept


def test_a_named_answer_is_as_often_yes_as_no() -> None:
    asked = [q for q in questions_about(some_pictures(), seed=0) if q.closed and q.task in OPEN]
    numbers = Counter((q.task, q.named, q.answer) for q in asked)
    assert {(task, named) for task, named, _ in numbers} >= {("modality", "CT"), ("organ", "brain")}
    for task, named, _ in numbers:
        assert numbers[task, named, "yes"] == numbers[task, named, "no"]
    for question in asked:
        assert (question.picture.facts[question.task] == question.named) == (
            question.answer == "yes"
        )


def test_half_of_the_noes_come_close() -> None:
    asked = questions_about(some_pictures(40), seed=0)
    noes = [q for q in asked if q.task == "modality" and q.named == "CT" and q.answer == "no"]
    close = sum(q.picture.facts["modality"] in WORDINGS["near"]["CT"] for q in noes) / len(noes)
    assert close > 0.6  # half by choice, and some of the others by chance


def test_a_finding_is_as_often_there_as_not_within_a_source() -> None:
    asked = [
        q
        for q in questions_about(some_pictures(), seed=0)
        if q.task == "tumour" and q.picture.source != "photo"
    ]
    plainly = Counter(q.picture.facts["tumour"] for q in asked)
    assert plainly["yes"] == plainly["no"]
    negated = [q for q in asked if q.text in WORDINGS["tumour"]["negated"]]
    assert negated
    assert all(q.answer != q.picture.facts["tumour"] for q in negated)


def test_what_is_not_medical_has_no_organ() -> None:
    asked = [q for q in questions_about(some_pictures(), seed=0) if q.picture.source == "photo"]
    assert {q.answer for q in asked if q.task == "organ"} == {NOT_MEDICAL}
    assert {q.answer for q in asked if q.task == "modality" and not q.closed} == {NOT_MEDICAL}


def test_sentences_and_phrases() -> None:
    labels = {"modality": "MRI", "organ": "brain", "plane": "axial", "tumour": True}
    picture = Picture("brain_mri_nickparvar", "brain_mri_nickparvar/a.png", (9, 9), labels)
    assert sentence_about(picture) == "Axial MRI of the brain with a tumor."
    assert ("tumour", "tumor") in phrases_about(picture)
    photo = Picture("photo", "photo/a.png", (9, 9), {"medical": False})
    assert sentence_about(photo) == "This is not a medical image."


def test_every_trained_answer_has_a_phrase() -> None:
    for near in WORDINGS["near"].values():
        assert set(near) <= set(NAMED)


def test_a_view_shows_its_arrows_where_it_says() -> None:
    stored = np.full((STORED, STORED, 3), 128, np.uint8)
    picture = Picture("ct_volumes", "ct_volumes/a.png", (64, 64), {"modality": "CT"})
    seen = 0
    for number in range(60):
        sample = view(picture, stored, random.Random(number))
        assert sample.pixels.shape == (SIDE, SIDE, 3)
        assert np.isnan(sample.objects).all()
        for cell in sample.tips:
            seen += 1
            row, column = divmod(cell, CELLS)
            around = sample.pixels[
                max(0, row * 16 - 16) : row * 16 + 32, max(0, column * 16 - 16) : column * 16 + 32
            ]
            middle = np.median(sample.pixels.reshape(-1, 3), 0)
            assert np.abs(around.astype(int) - middle).max() > 40
    assert seen > 8
    for kind in NO_ARROWS:
        plain = Picture("us", "us/a.png", (64, 64), {"modality": kind})
        assert not any(view(plain, stored, random.Random(n)).tips for n in range(40))


def test_a_view_moves_the_boxes_with_the_picture() -> None:
    from pictures import Thing

    image = Image.new("RGB", (STORED, STORED))
    image.paste((255, 255, 255), (60, 90, 130, 160))
    things = [Thing("polyp", (60, 90, 130, 160))]
    picture = Picture("endoscopy", "endoscopy/a.png", image.size, {"modality": "endoscopy"}, things)
    for number in range(10):
        sample = view(picture, np.asarray(image), random.Random(number))
        if sample.tips:
            continue  # whose arrows may be white
        cells = sample.pixels.mean(2).reshape(CELLS, 16, CELLS, 16).mean((1, 3))
        boxed = sample.objects[OBJECTS.index("polyp")] == 1
        assert cells[boxed].mean() > 3 * cells[~boxed].mean() + 5


def test_every_picture_is_seen_once_an_epoch() -> None:
    seen = Counter(index for batch in batches(100, 2.0, 0) for index, _ in batch)
    assert len(seen) == 100
    assert sum(seen.values()) == 192  # the last, incomplete batch is left out
    assert max(seen.values()) == 2


@pytest.mark.real_data
def test_no_source_is_on_two_sides_unless_it_is_the_only_one(data_root: Path) -> None:
    parts = defaultdict(set)
    for picture in read_pictures(data_root):
        parts[picture.source].add(picture.part)
    for source, rule in FOLDERS.items():
        assert len(parts[source]) == 1 or "by" in rule
    for part in ("development", "final"):
        assert sum(found == {part} for found in parts.values()) >= 8


def test_whoever_is_trained_on_is_credited() -> None:
    notice = " ".join((RECIPE.parents[1] / "NOTICE").read_text("utf-8").split())
    for source, rule in FOLDERS.items():
        trained = rule.get("part", "train") == "train"
        assert ("credit" in rule) == trained, source
        assert rule.get("credit", "") in notice, source


def test_yes_or_no_comes_down_to_an_open_question_of_training() -> None:
    """`attributes.json` knows the values and the names that training asks with."""
    attributes = load_attributes(RECIPE)
    assert attributes is not None
    tasks = [
        task for each in attributes.all for task in OPEN if each.question in WORDINGS[task]["asked"]
    ]
    assert tasks == ["modality", "organ"]
    for attribute in attributes.all:
        for value in {value for value, holds in attribute.names.values() if holds}:
            for name in NAMED.get(value, [value]):
                if name not in ("a photograph", "a drawing"):  # not medical, but each another thing
                    meant = attributes.asked_in(f"Is this {name}?")
                    assert meant == [Condition(attribute.question, value)]
    for text in (
        "Is this medicine?",
        "Has the medicine been taken?",
        "Is this a medical emergency?",
    ):
        assert attributes.asked_in(text) == []
    words = WORDINGS["medical"]
    for text in [*words["questions"], *words["kept"]]:
        assert attributes.asked_in(text) == [
            Condition("What imaging modality is this?", NOT_MEDICAL, holds=False)
        ], text
