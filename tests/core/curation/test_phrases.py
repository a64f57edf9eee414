"""Noun phrases and clauses of captions, written out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.curation.phrases import (
    LONGEST_CLAUSE,
    LONGEST_PHRASE,
    clauses,
    normalize,
    noun_phrases,
    related_texts,
    unique,
)

CHEST = (
    "Chest CT scan showing a large mass in the right upper lobe (arrow), with mediastinal "
    "lymphadenopathy."
)
BRAIN = (
    "Fig. 2 (A) Axial T2-weighted MRI of the brain demonstrates hyperintense lesions in the "
    "periventricular white matter (white arrows), consistent with multiple sclerosis [12]. (B) "
    "Post-contrast T1 image; no enhancement is seen."
)


def test_a_chest_ct() -> None:
    assert noun_phrases(CHEST) == [
        "Chest CT scan",
        "large mass in the right upper lobe",
        "large mass",
        "right upper lobe",
        "mediastinal lymphadenopathy",
    ]


def test_a_brain_mri_with_labels_references_and_a_negation() -> None:
    assert noun_phrases(BRAIN) == [
        "Axial T2-weighted MRI of the brain",
        "Axial T2-weighted MRI",
        "brain",
        "hyperintense lesions in the periventricular white matter",
        "hyperintense lesions",
        "periventricular white matter",
        "multiple sclerosis",
        "Post-contrast T1 image",
        "no enhancement",
    ]


def test_clauses_are_cut_at_commas_and_brackets() -> None:
    assert clauses(CHEST) == [
        "Chest CT scan showing a large mass in the right upper lobe",
    ]
    assert "no enhancement is seen" in clauses(BRAIN)


def test_without_stays_with_what_is_missing() -> None:
    assert noun_phrases("Radius without fracture.") == ["Radius", "without fracture"]


@pytest.mark.parametrize(
    "text", ["", "  ", "Figure 3.", "(A, B)", "The image of a patient.", "12 14 3"]
)
def test_nothing_is_made_of_nothing(text: str) -> None:
    assert related_texts(text) == []


def test_the_same_text_in_other_words_counts_once() -> None:
    assert normalize("The  Right-upper lobes") == "right upper lobe"
    assert unique(["a mass", "Mass", "masses", "the lesions", "lesion", "  "]) == [
        "a mass",
        "masses",
        "the lesions",
    ]


@given(st.text(max_size=300))
def test_any_text_gives_short_different_texts(text: str) -> None:
    found = related_texts(text)
    assert len({normalize(phrase) for phrase in found}) == len(found)
    assert all(0 < len(phrase.split()) <= LONGEST_CLAUSE for phrase in found)
    assert all(len(phrase.split()) <= LONGEST_PHRASE for phrase in noun_phrases(text))
    assert found == related_texts(text)
