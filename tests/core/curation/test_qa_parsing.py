"""Pairs out of every form of answer that models give."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.curation.qa_parsing import Pair, parse_pairs

TWO = [Pair("What is shown?", "A mass."), Pair("Where is it?", "In the left lung.")]
ROWS = [{"question": pair.question, "answer": pair.answer} for pair in TWO]
PAPER = (
    '["question": "What is shown?", "answer": "A mass.", "question": "Where is it?", "answer": '
    '"In the left lung."]'
)

FORMS = {
    "schema": json.dumps({"pairs": ROWS}),
    "list": json.dumps(ROWS, indent=1),
    "fenced": "Here you are:\n```json\n" + json.dumps(ROWS) + "\n```\nI hope that this helps!",
    "paper": PAPER,
    "paper, fenced and chatty": f"Sure!\n```\n{PAPER}\n```\nLet me know.",
    "paper, one bracket each": PAPER.replace(', "question": "Where', '], ["question": "Where'),
    "one object, names twice": PAPER.replace("[", "{").replace("]", "}"),
    "numbered names": json.dumps(
        {
            "question1": TWO[0].question,
            "answer1": TWO[0].answer,
            "question2": TWO[1].question,
            "answer2": TWO[1].answer,
        }
    ),
    "objects one after the other": "\n".join(json.dumps(row) for row in ROWS),
    "short names": json.dumps([{"Q": pair.question, "A": pair.answer} for pair in TWO]),
    "lists of two": json.dumps([[pair.question, pair.answer] for pair in TWO]),
    "nested": json.dumps({"result": {"qa": [{"pair": row} for row in ROWS]}}),
    "trailing comma": json.dumps(ROWS).replace("}]", "},]"),
    "labels": "Question 1: What is shown?\nAnswer 1: A mass.\n\nQuestion 2: Where is it?\n"
    "Answer 2: In the left lung.",
    "markdown": "1. **Question:** What is shown?\n   **Answer:** A mass.\n\n2. **Question:** Where is "
    "it?\n   **Answer:** In the left lung.\n\nThese pairs follow your rules.",
    "letters": "Q1. What is shown?\nA1. A mass.\nQ2. Where is it?\nA2. In the left lung.",
    "thoughts first": '<think>{"question": "no", "answer": "no"}</think>' + json.dumps(ROWS),
    "line breaks inside": json.dumps(ROWS).replace("In the left", "In the\\n  left"),
    "raw line breaks": json.dumps(ROWS).replace("In the left", "In the\nleft"),
    "cut off": '{"pairs": ' + json.dumps([*ROWS, {"question": "And"}])[:-10],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pairs(form: str) -> None:
    assert parse_pairs(FORMS[form]) == TWO


@pytest.mark.parametrize(
    "text",
    ["", "I think {this} is [fine", "{}", "[[[[", '{"question": "What?"}', "A: b", "[" * 50_000],
)
def test_nothing_is_found_where_nothing_is(text: str) -> None:
    assert parse_pairs(text) == []


def test_quotes_and_characters_come_through_the_paper_s_format() -> None:
    text = r'["question": "What is \"A\"?", "answer": "a 5 \u00b5m b\u00e4r"]'
    assert parse_pairs(text) == [Pair('What is "A"?', "a 5 µm bär")]


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_any_pair_survives_json(pairs: list[tuple[str, str]]) -> None:
    text = json.dumps({"pairs": [{"question": q, "answer": a} for q, a in pairs]})
    assert parse_pairs(f"Sure: {text} Done.") == [Pair(q, a) for q, a in pairs]


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for pair in parse_pairs(text):
        assert pair.question
        assert pair.answer


@given(st.integers(0, len(FORMS["schema"])))
def test_a_cut_anywhere_gives_a_prefix(cut: int) -> None:
    assert parse_pairs(FORMS["schema"][:cut]) in ([], TWO[:1], TWO)


def test_a_line_of_stars_is_read_at_once() -> None:
    """It took the square of its length: seven seconds for what is read of an answer, at each retry."""
    began = time.process_time()
    assert parse_pairs("*" * 60_000) == []
    assert time.process_time() - began < 2
