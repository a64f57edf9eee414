"""Multiple choice: whose letter is stripped, and which choice an answer means."""

# ruff: noqa: RUF001 (texts in other scripts)

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.data.formats import ReadOptions, Rejection, stream_records
from biod2c_core.data.formats.fields.choices import choice_meant, without_letters
from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.choices import asked_question, choices_of
from biod2c_core.evaluation.score.profiles import get_profile

GERMS = {"A": "S. aureus", "B": "C. difficile", "C": "E. coli", "D": "B. subtilis"}
SIDES = {"A": "Left lung", "B": "Right lung", "C": "Both lungs", "D": "Neither"}
LETTERED = [
    *("B", "(B)", "[B]", "B.", "B)", "B:", "b", "**B**", "__B__", "`B`", "$B$", r"\boxed{B}"),
    *("Option B", "option B.", "Choice B", "Answer: B", "answer is B", "The answer is B."),
    *("The answer is: B", "The correct answer is (B).", "The best choice is option **B**."),
    *("Final answer: B", "I see it. Therefore, the answer is B.", "B is correct.", "Answer B"),
    *("The answer is B because it shows", "ANSWER: (b)", "B, because of the shadow"),
    *("答案是B。", "答案：B", "选B", "选项B", "（B）", "Ｂ", "B。"),
]


@pytest.mark.parametrize("said", LETTERED)
def test_letters_in_all_their_dresses(said: str) -> None:
    assert choice_meant(GERMS, said) == choice_meant(SIDES, said) == "B"


@pytest.mark.parametrize(
    ("choices", "said", "letter"),
    [
        (GERMS, "C. difficile", "B"),
        (GERMS, "c. Difficile.", "B"),
        (GERMS, "B. subtilis", "D"),
        (GERMS, "B. C. difficile", "B"),
        (GERMS, "B: C. difficile", "B"),
        (GERMS, "(B) C. difficile", "B"),
        (GERMS, "B - C. difficile", "B"),
        (GERMS, "B C. difficile", "B"),
        (GERMS, "The answer is C. difficile.", "B"),
        (GERMS, "**C. difficile**", "B"),
        (GERMS, "E. coli", "C"),
        (GERMS, "C. difficile infection", ""),
        (GERMS, "The answer is not B", ""),
        (GERMS, "A, B", ""),
        (GERMS, "A and B", ""),
        (GERMS, "", ""),
        (SIDES, "A: the liver", "A"),
        (SIDES, "a left lung nodule", ""),
        (SIDES, "right\n lung", "B"),
        ({"A": "D", "B": "C", "C": "B", "D": "A"}, "A", "D"),  # its text goes before its letter
        ({"A": "A", "B": "B", "C": "C", "D": "D"}, "C", "C"),
        ({"A": "yes", "B": "no"}, "No.", "B"),
        ({"A": "yes", "B": "no"}, "C", ""),
        ({"A": "T1", "B": "T2", "E": "Diffusion"}, "(E)", "E"),
        ({"A": "a", "B": "α", "C": "左肺"}, "左肺。", "C"),
    ],
)
def test_text_goes_before_letters(choices: dict[str, str], said: str, letter: str) -> None:
    assert choice_meant(choices, said) == letter


@pytest.mark.parametrize(
    ("given", "bare"),
    [
        (GERMS, GERMS),
        ({k: f" {k}: {v} " for k, v in GERMS.items()}, GERMS),
        ({k: f"{k}:{v}" for k, v in GERMS.items()}, GERMS),
        ({k: f"({k.lower()}) {v}" for k, v in GERMS.items()}, GERMS),
        ({k: f"{k}. {v}" for k, v in GERMS.items()}, GERMS),
        ({k: f"{k}) {v}" for k, v in GERMS.items()}, GERMS),
        # initials that happen to be a choice's own letter
        (
            {"A": "S. aureus", "B": "E. coli", "C": "C. difficile"},
            {"A": "S. aureus", "B": "E. coli", "C": "C. difficile"},
        ),
        ({"A": "A. baumannii", "B": "E. coli"}, {"A": "A. baumannii", "B": "E. coli"}),
        ({"A": "B: first", "B": "A: second"}, {"A": "B: first", "B": "A: second"}),
        ({"A": "A: one", "B": "two"}, {"A": "one", "B": "two"}),
        ({"A": "A:", "B": "B"}, {"A": "A:", "B": "B"}),
        ({"A": "CT", "B": "", "C": "MR"}, {"A": "CT", "C": "MR"}),
    ],
)
def test_only_a_choice_s_own_letter_is_stripped(
    given: dict[str, str], bare: dict[str, str]
) -> None:
    assert without_letters(given) == bare


WORDS = st.text("abcdelmnost", min_size=3, max_size=9)


@given(
    texts=st.lists(WORDS, min_size=4, max_size=4, unique=True),
    letter=st.sampled_from("ABCD"),
    form=st.sampled_from(["{l}", "{t}", "({l})", "{l}: {t}", "{l}. {t}", "The answer is {t}."]),
)
@settings(max_examples=60)
def test_what_was_written_as_a_choice_is_read_as_it(
    texts: list[str], letter: str, form: str
) -> None:
    choices = dict(zip("ABCD", texts, strict=True))
    assert without_letters({k: f"{k}: {v}" for k, v in choices.items()}) == choices
    assert choice_meant(choices, form.format(l=letter, t=choices[letter])) == letter


HEADER = "Figure_path,Question,Choice A,Choice B,Choice C,Choice D,Answer"


def pmc(folder: Path, rows: list[str], header: str = HEADER) -> tuple[list[Record], list[str]]:
    (folder / "test.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    items = list(stream_records(folder / "test.csv", options=ReadOptions()))
    return (
        [item for item in items if isinstance(item, Record)],
        [item.reason for item in items if isinstance(item, Rejection)],
    )


GERM_ROW = "x.png,Which?,S. aureus,C. difficile,E. coli,B. subtilis,"


@pytest.mark.parametrize("answer", ["B", "C. difficile", "B: C. difficile", "(B)", "b"])
@pytest.mark.parametrize(
    "row", [GERM_ROW, "x.png,Which?, A: S. aureus , B:C. difficile, C:E. coli,D:B. subtilis,"]
)
def test_lettered_choices_with_any_answer(row: str, answer: str, tmp_path: Path) -> None:
    (record,), _ = pmc(tmp_path, [row + answer])
    assert record.answer == "C. difficile"
    assert choices_of(record) == GERMS
    rule = get_profile("pmc-vqa").prepare([record])
    for said in ("C. difficile", "B", "The answer is B.", "It is C. difficile"):
        assert rule(record, said) == {"choice_accuracy": 1}
    for said in ("C", "E. coli", "B. subtilis", "D"):
        assert rule(record, said) == {"choice_accuracy": 0}
    assert asked_question(record).endswith("A: S. aureus B: C. difficile C: E. coli D: B. subtilis")


def test_labels_beside_the_answer(tmp_path: Path) -> None:
    header = HEADER + ",Answer_label"
    row = "x.png,Which?,D,C,B,A,"
    records, bad = pmc(
        tmp_path, [row + "A,A", row + "A,D", row + ",C", GERM_ROW + "E. coli,B"], header
    )
    assert [(r.answer, r.tags["answer_label"]) for r in records] == [
        ("D", "A"),
        ("A", "D"),
        ("B", "C"),
    ]
    assert bad == ["the answer is 'E. coli', but 'Answer_label' is 'B'"]
    records, bad = pmc(tmp_path, [GERM_ROW + "G", GERM_ROW + "", GERM_ROW + "K. oxytoca"])
    assert ["only the choices" in bad[0], "missing" in bad[1]] == [True, True]
    assert (records[0].answer, "answer_label" in records[0].tags) == ("K. oxytoca", False)


def test_choices_of_own_records_may_be_lettered() -> None:
    tags = {f"choice_{k.lower()}": f"{k}. {v}" for k, v in SIDES.items()}
    record = Record("1", "x.png", "?", "Both lungs", tags=tags)
    rule = get_profile("pmc-vqa").prepare([record])
    assert rule(record, "C") == rule(record, "both lungs.") == {"choice_accuracy": 1}
    assert rule(record, "C. Both lungs") == {"choice_accuracy": 1}
    assert rule(record, "B") == {"choice_accuracy": 0}
