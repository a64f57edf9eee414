"""Other words by rule, negations, and true and false attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_answerer import Said
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from biod2c_core.data.records import Record, write_records
from biod2c_core.errors import InputError
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.probes import consistency
from biod2c_core.evaluation.probes.attributes import attribute_pairs
from biod2c_core.evaluation.probes.consistency import Consistency, meaning
from biod2c_core.evaluation.probes.wording import Wording, reword
from biod2c_core.evaluation.request import Request

CLOSED = {
    "Is there a rib fracture?": (
        "Can you see a rib fracture?",
        "Is it true that there is no rib fracture?",
    ),
    "Is/Are there evidence of pleural effusion in this image?": (
        "Can you see evidence of pleural effusion in this image?",
        "Is it true that there is no evidence of pleural effusion in this image?",
    ),
    "Are there calcifications in the aorta": (
        "Can you see calcifications in the aorta?",
        "Is it true that there are no calcifications in the aorta?",
    ),
    "Do you see any masses?": ("Are there masses?", "Is it true that there are no masses?"),
    "Does this image show lung?": (
        "Can you see lung here?",
        "Is it true that no lung can be seen here?",
    ),
    "Is a pneumothorax present in the left apex?": (
        "Can you see a pneumothorax in the left apex?",
        "Is it true that there is no pneumothorax in the left apex?",
    ),
    "Is this an axial CT?": (
        "Would you say that this is an axial CT?",
        "Is it true that this is not an axial CT?",
    ),
    "Is the fat surrounding the kidneys normal?": (
        "Would you say that the fat surrounding the kidneys is normal?",
        "Is it true that the fat surrounding the kidneys is not normal?",
    ),
    "Do the lungs appear clear?": (
        "Would you say that the lungs are clear?",
        "Is it true that the lungs do not appear clear?",
    ),
    "Can the ventricles be seen?": (
        "Would you say that the ventricles are visible?",
        "Is it true that the ventricles cannot be seen?",
    ),
    "Was IV contrast given?": (
        "Did the patient receive IV contrast?",
        "Is it true that no IV contrast was given?",
    ),
    "Does this patient have a mass?": (
        "Can you see a mass in this patient?",
        "Is it true that this patient does not have a mass?",
    ),
}


@pytest.mark.parametrize("question", CLOSED)
def test_closed_questions_in_other_words_and_negated(question: str) -> None:
    words = reword(question, closed=True)
    assert words is not None
    assert (words.paraphrase, words.negation) == CLOSED[question]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where is the lesion located?", "What is the location of the lesion?"),
        ("What is the location of the masses?", "Where are the masses?"),
        ("How was this image taken?", "With which imaging modality was this taken?"),
        ("In what plane was this image taken?", "This view is in which plane?"),
        ("How many nodules are there?", "What is the number of nodules?"),
    ],
)
def test_open_questions_in_other_words(question: str, expected: str) -> None:
    words = reword(question, closed=False)
    assert words is not None
    assert (words.paraphrase, words.negation) == (expected, "")


@pytest.mark.parametrize(
    "question",
    [
        "Is there no fracture?",
        "Is the heart normal or enlarged?",
        "Is the left lung more opaque than the right?",
        "Is this normal? Is there a mass?",
        "Isn't the heart enlarged?",
        "\u80ba\u90e8\u6b63\u5e38\u5417",
        "Are the borders of the heart clearly visible?",
        "",
        "Is there a " + "rib " * 10_000 + "fracture?",
    ],
)
def test_what_is_not_clear_is_left_as_it_is(question: str) -> None:
    assert reword(question, closed=True) is None


@settings(max_examples=40)
@given(st.text(max_size=60), st.booleans())
def test_any_text_is_taken(question: str, closed: bool) -> None:
    words = reword(question, closed)
    assert words is None or (words.paraphrase.endswith("?") and bool(words.negation) == closed)


def tagged(image: str, **tags: str) -> Record:
    return Record(f"{image} {len(tags)}", image, "What is it?", "x", split="test", tags=tags)


def test_pairs_of_attributes() -> None:
    records = [
        tagged("a.png", modality="MRI", organ="Brain", finding="glioma"),
        tagged("b.png", modality="X-Ray", organ="Lung, Heart", finding="none"),
        tagged("c.png", modality="X-ray", organ="Chest", finding="pneumonia"),
    ]
    pairs = {(p.attribute, p.true.image): p for p in attribute_pairs(records)}
    assert len(pairs) == 3 + 3 + 2
    modality = pairs["modality", "a.png"]
    assert (modality.true.question, modality.true.answer) == (
        "Was this image taken with MRI?",
        "yes",
    )
    assert (modality.false.question, modality.false.answer) == (
        "Was this image taken with X-ray?",
        "no",
    )
    # a chest shows lungs: only another part of the body is false
    assert pairs["organ", "c.png"].false.question == "Does this image show the brain?"
    assert pairs["finding", "a.png"].false.question == "Is there pneumonia in this image?"
    assert attribute_pairs(records[1:2]) == []


@dataclass
class Keeper:
    """Says what is so, or always yes."""

    knows: bool
    name: str = "keeper"
    identity: str = "k"
    asked: list[str] = field(default_factory=list)

    def answer_images(self, images: Any, questions: Any) -> list[Said]:
        self.asked += [text for _, text in questions]
        return [Said(self.say(text)) for _, text in questions]

    def say(self, question: str) -> str:
        if not self.knows:
            return "Yes, it is."
        no = question.startswith("Is it true") or "brain" in question or "MRI" in question
        return "no" if no else "Yes"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tags = [{"modality": "X-ray", "organ": "chest"}, {"modality": "MRI", "organ": "brain"}]
    records = []
    for index in range(4):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index}.png")
        text = "Is there a fracture?" if index < 3 else "Really?"
        own = tags[0] if index < 3 else tags[1]
        records.append(Record(f"{index}", f"{index}.png", text, "yes", split="test", tags=own))
    write_records(tmp_path / "data.jsonl", records)
    return tmp_path / "data.jsonl"


def keep(data: Path, keeper: Keeper) -> Consistency:
    request = Request(data, run=data.parent / "run", model="k", consistency=True)
    found = evaluate(request, lambda *_: keeper).consistency
    assert found is not None
    return found


def test_one_that_keeps_to_what_it_says(data: Path) -> None:
    keeper = Keeper(knows=True)
    found = keep(data, keeper)
    negation, paraphrase = found.wordings
    assert (negation.kind, negation.questions, negation.of) == ("negation", 3, 4)
    assert (paraphrase.kind, paraphrase.questions) == ("paraphrase, closed", 3)
    assert negation.consistent.value == paraphrase.consistent.value == 1
    assert negation.both_right.value == 1
    organ = next(each for each in found.attributes if each.attribute == "organ")
    assert (organ.pairs, organ.true_right.value, organ.both_right.value) == (4, 0.75, 0.75)
    folder = data.parent / "run"
    assert "Does it keep to what it says?" in (folder / "report.md").read_text()
    assert len((folder / "consistency.jsonl").read_text().splitlines()) == 3 + 3 + 4 * 2 * 2
    assert len(keeper.asked) == 4 + 6 + 16
    keep(data, keeper)
    assert len(keeper.asked) == 4 + 6 + 16


def test_answers_to_questions_that_other_rules_made_are_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(data, Keeper(knows=True))
    other = Wording("Do you see one?", "Is there none?")
    monkeypatch.setattr(consistency, "reword", lambda *_: other)
    with pytest.raises(InputError, match="has the predictions for other questions"):
        evaluate(Request(data, run=data.parent / "run", consistency=True), lambda *_: None)


def test_one_that_always_says_yes(data: Path) -> None:
    found = keep(data, Keeper(knows=False))
    negation, paraphrase = found.wordings
    assert (negation.consistent.value, paraphrase.consistent.value) == (0, 1)
    for each in found.attributes:
        assert (each.true_right.value, each.false_right.value, each.both_right.value) == (1, 0, 0)


def test_data_that_no_rule_fits(data: Path) -> None:
    record = Record("1", "0.png", "Really?", "yes", split="test")
    write_records(data, [record])
    with pytest.raises(InputError, match="no question fits a rule"):
        keep(data, Keeper(knows=True))


def test_what_counts_of_an_answer() -> None:
    assert meaning("Yes, there is.") == "yes"
    assert meaning("No.") == "no"
    assert meaning("normal") == "normal"
    assert meaning("X ray") == meaning("x-ray")
