"""A kind left out: no picture of it, and no word about it, is left in what a model is trained on."""

from __future__ import annotations

import pytest
from questions import NAMED
from unknown import naming, variant_of, without_kind

from biod2c_core.data.records import Record

US = "ultrasound"


def record(name: str, question: str, answer: str, **more: object) -> Record:
    return Record(name, f"{name}.png", question, answer, tags={"task": "t", "base": name}, **more)


@pytest.mark.parametrize("modality", [US, "fundus photography", "CT", "endoscopy", "ECG"])
def test_every_word_of_a_kind_names_it(modality: str) -> None:
    named = naming(modality)
    assert named.search(f"Is this {modality}?")
    for phrase in NAMED[modality]:
        assert named.search(f"is it {phrase.upper()}?")


@pytest.mark.parametrize(
    ("modality", "text"),
    [
        ("CT", "Is there a fracture in this picture?"),
        ("light microscopy", "Is there slight blunting?"),
        ("OCT angiography", "an OCT scan"),
        ("fundus photography", "a photograph of fruit"),
    ],
)
def test_other_words_do_not(modality: str, text: str) -> None:
    assert not naming(modality).search(text)


def test_a_kind_is_left_out_with_all_that_names_it() -> None:
    records = [
        record("shown", "What organ is this?", "breast"),
        record("asked", "Is this an ultrasound image?", "no"),
        record("said", "What is this?", "Ultrasound"),
        record("told", "Describe it.", "A picture.", caption="A sonogram of the liver."),
        record("kept", "What is this?", "CT", queue=("MRI", "an ultrasound", "chest")),
    ]
    (kept,) = without_kind(records, {"shown"}, naming(US))
    assert (kept.id, kept.queue) == ("kept", ("MRI", "chest"))


def test_a_kind_has_a_variant_of_its_own() -> None:
    assert [variant_of(US), variant_of("OCT angiography")] == [
        "no_ultrasound",
        "no_oct_angiography",
    ]
