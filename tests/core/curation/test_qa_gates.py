"""The quality gates, each with what it lets through and what it stops."""

from __future__ import annotations

import pytest

from biod2c_core.curation.qa_gates import (
    REASONS,
    GateLimits,
    count_sentences,
    is_copied,
    longest_common_run,
    question_name,
    rejection_reason,
)
from biod2c_core.curation.qa_parsing import Pair

CAPTION = (
    "Axial CT of the chest showing a spiculated mass in the right upper lobe with mediastinal "
    "lymphadenopathy and a small pleural effusion."
)
QUESTION = "What abnormality is seen in the right lung?"
ANSWER = "A spiculated mass, suspicious for malignancy."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTION, ANSWER),
        (QUESTION, "A spiculated mass"),
        ("Which lobe holds the mass?", "Right upper lobe"),
        ("Describe the margin of the mass (e.g. smooth vs. spiculated).", "It is spiculated."),
        ("How large is the 3.5 cm mass compared with the heart?", "About a quarter of it."),
        ("Does the mass reach the pleura?", "Yes, along its lateral margin."),
        ("What does the text label in the corner read?", "R, for right."),
    ],
)
def test_good_pairs_pass(question: str, answer: str) -> None:
    assert rejection_reason(Pair(question, answer), CAPTION) == ""


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Why?", ANSWER, "length"),
        (" ".join(["word"] * 41), ANSWER, "length"),
        (QUESTION, " ".join(["word"] * 81), "length"),
        (QUESTION + " Where is it?", ANSWER, "sentence"),
        ("This is a chest CT. What is abnormal in it?", ANSWER, "sentence"),
        ("According to the caption, what is shown?", ANSWER, "caption"),
        ("What is described in the text?", ANSWER, "caption"),
        (QUESTION, "As stated in the description, a mass.", "caption"),
        (QUESTION, "The figure legend names a mass.", "caption"),
        ("Is there a mass in the right lung?", "Yes.", "closed"),
        ("Is there a mass in the right lung?", "no", "closed"),
        (QUESTION, "I'm sorry, but I cannot help with that.", "refusal"),
        (QUESTION, "I cannot determine this from the image.", "refusal"),
        ("xxx", "xxx", "placeholder"),
        (QUESTION, "...", "placeholder"),
        (QUESTION, " .. !", "placeholder"),
        ("." * 1900 + "b", ANSWER, "length"),  # took the cube of the dots
        (QUESTION, "." * 19_000 + "b", "length"),
        (QUESTION, "A spiculated mass in the right upper lobe.", "copied"),
        (
            QUESTION,
            "There is, as far as one can see here, a spiculated mass in the right upper lobe with "
            "mediastinal lymphadenopathy, which is worrying and needs a biopsy soon.",
            "copied",
        ),
    ],
)
def test_bad_pairs_are_stopped_with_the_reason(question: str, answer: str, reason: str) -> None:
    assert rejection_reason(Pair(question, answer), CAPTION) == reason
    assert reason in REASONS


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("What is it?", 1),
        ("What is it", 1),
        ("What is it?!", 1),
        ("Is it 3.5 cm, i.e. large?", 1),
        ("What does Fig. 2 show?", 1),
        ("A scan. What is it?", 2),
        ("What is it? Why?", 2),
        ("", 0),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_the_longest_common_run_against_all_runs() -> None:
    first, second = ["a", "b", "c", "a", "b", "d"], ["x", "a", "b", "d", "a", "b", "c", "y"]
    runs = [
        end - start
        for start in range(len(first))
        for end in range(start, len(first) + 1)
        if any(second[i : i + end - start] == first[start:end] for i in range(len(second)))
    ]
    assert longest_common_run(first, second) == max(runs) == 3
    assert longest_common_run([], second) == longest_common_run(first, []) == 0


def test_the_bounds_of_copying_can_be_moved() -> None:
    answer = "A spiculated mass in the right upper lobe."
    assert is_copied(answer, CAPTION, GateLimits())
    assert not is_copied(answer, CAPTION, GateLimits(copied_run=20, copied_share=1.1))


def test_the_same_question_in_other_dress_has_the_same_name() -> None:
    assert question_name("What is the mass?") == question_name("what is a MASS")
    assert question_name("What is the mass?") != question_name("What is the node?")
