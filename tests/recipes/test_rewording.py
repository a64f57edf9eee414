"""Questions in other words: what they must keep, and some by hand."""

from __future__ import annotations

import random

import pytest
import vqa_rad
from hypothesis import given
from hypothesis import strategies as st
from rewording import FORMS, rewordings, spoken

from biod2c_core.data.records import Record


@pytest.mark.parametrize(
    ("framed", "said"),
    [
        ("Is/Are there tracheal deviation?", "Is there tracheal deviation?"),
        ("Is/Are there fractures of the ribs?", "Are there fractures of the ribs?"),
        ("Is/Are the the heart enlarged ?", "Is the heart enlarged ?"),
        ("Is/Are the ventricles enlarged?", "Are the ventricles enlarged?"),
        ("Where is/are the infarcts located?", "Where are the infarcts located?"),
        (
            "What is/are the nodules near/in the left lobe?",
            "What are the nodules in the left lobe?",
        ),
        (
            "How many spleen lesions are present/visualized in the image?",
            "How many spleen lesions are visible in the image?",
        ),
        ("Is there a mass?", "Is there a mass?"),
    ],
)
def test_framed_questions_are_said_as_somebody_would(framed: str, said: str) -> None:
    assert spoken(framed) == said


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("Is there evidence of a pleural effusion?", "Can you see pleural effusion"),
        ("Are the kidneys normal?", "Do the kidneys look normal"),
        ("Are both kidneys enlarged?", "Do both kidneys look enlarged"),
        ("Where is the mass located?", "What is the location of the mass"),
        ("What plane was this image taken in?", "Which plane is shown"),
        ("How big is the lesion?", "What is the size of the lesion"),
        ("How would you describe the ventricles?", "What do the ventricles look like"),
        ("How many kidneys are there in this image?", "How many kidneys can you count"),
        ("What is abnormal with the liver?", "What is wrong with the liver"),
        ("Which lobe is the opacity in?", "In which lobe is the opacity"),
        ("Is this an MRI?", "Is it an MRI"),
    ],
)
def test_other_words_by_hand(question: str, other: str) -> None:
    found = [each for seed in range(40) for each in rewordings(question, 6, random.Random(seed))]
    assert any(each.startswith(other) for each in found), sorted(set(found))


@pytest.mark.parametrize(
    "question",
    [
        "Is the lesion radiolucent or radiopaque?",
        "What disease origin is the lesion?",
        "Are the ventricles larger than normal?",
    ],
)
def test_what_the_rules_do_not_grasp_keeps_its_words(question: str) -> None:
    for text in rewordings(question, 6, random.Random(0)):
        shared = set(question.lower().strip("?").split()) & set(text.lower().strip("?").split())
        assert len(shared) >= len(question.split()) - 1


NOUNS = st.sampled_from(["mass", "ribs", "right lung", "pleural effusion", "aortic arch"])
ASKED = st.sampled_from(
    [
        "Is/Are there {}?",
        "Where is/are the {} located?",
        "Is the {} normal?",
        "What is the {}?",
        "How large is the {}",
        "Why {}?",
    ]
)


@given(ASKED, NOUNS, st.integers(0, 8), st.integers(0, 99))
def test_each_differs_and_still_names_the_thing(
    asked: str, noun: str, most: int, seed: int
) -> None:
    question = asked.format(noun)
    found = rewordings(question, most, random.Random(seed))
    assert len(found) <= most
    bare = {"".join(filter(str.isalnum, text.lower())) for text in (question, *found)}
    assert len(bare) == len(found) + 1
    assert all(noun in text for text in found)
    assert not any("is/are" in text.lower() or "{" in text for text in found)
    assert found == rewordings(question, most, random.Random(seed))


def test_every_form_is_filled_by_every_pattern_of_its_group() -> None:
    for group in FORMS:
        wanted = {name for form in group.forms for name in "wtxy" if f"{{{name}}}" in form}
        for asked in group.asked:
            assert wanted - {"t"} <= {
                n for n in "wtxy" if f"(?P<{n}>" in asked or f"{{{n}}}" in asked
            }


def test_records_keep_everything_but_the_question() -> None:
    record = Record(
        id="vqa_rad/7",
        image="images/vqa_rad/a.jpg",
        question="Is/Are there pleural effusion?",
        answer="no",
        answer_type="CLOSED",
        queue=("a chest", "an X-ray"),
        tags={"task": "vqa_rad", "base": "images/vqa_rad/a.jpg"},
    )
    made = vqa_rad.reworded_records([record], seed=0)
    assert [each.id for each in made] == [f"vqa_rad/7-reworded-{n + 1}" for n in range(6)]
    assert len({each.question for each in (record, *made)}) == 7
    for each in made:
        assert (each.image, each.answer, each.answer_type) == (record.image, "no", "CLOSED")
        assert (each.queue, each.tags) == (record.queue, record.tags)
