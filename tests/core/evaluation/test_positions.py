"""Letters of multiple choice: shuffled by a seed, and whether answers hang on them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.choices import choices_of
from biod2c_core.evaluation.predict.predictions_file import Prediction, split_checksum
from biod2c_core.evaluation.report.positions import positions_table
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.profiles.choice.question import choice_question
from biod2c_core.evaluation.score.score import Evaluation, score
from biod2c_core.evaluation.shuffle_choices import shuffle_choices, shuffle_data
from biod2c_core.evaluation.statistics.analysis import analyse
from biod2c_core.evaluation.statistics.positions import position_bias

TEXTS = ("lung", "liver", "kidney", "spleen", "heart")


def record(name: str, choices: list[str], right: int, **tags: str) -> Record:
    letters = {f"choice_{'abcdefgh'[place]}": text for place, text in enumerate(choices)}
    tags = {**letters, "answer_label": "ABCDEFGH"[right], **tags}
    return Record(name, f"{name}.png", "Which?", choices[right], tags=tags)


def records(count: int) -> list[Record]:
    generator = random.Random(1)
    found = []
    for number in range(count):
        choices = generator.sample(TEXTS, 4)
        found.append(record(str(number), choices, generator.randrange(4)))
    return found


@given(
    choices=st.lists(
        st.text(st.characters(categories=["Ll", "Nd"]), min_size=2, max_size=8),
        min_size=2,
        max_size=8,
        unique=True,
    ),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_shuffling_moves_letters_and_changes_nothing_else(
    choices: list[str], seed: int, data: st.DataObject
) -> None:
    before = record("q", choices, data.draw(st.integers(0, len(choices) - 1)), organ="chest")
    after = shuffle_choices(before, seed)
    assert sorted(choices_of(after).values()) == sorted(choices_of(before).values())
    assert list(choices_of(after)) == list(choices_of(before))
    question = choice_question(after)
    assert question is not None
    assert question.choices[question.right] == before.answer == after.answer
    assert after.tags["organ"] == "chest"
    assert after == shuffle_choices(before, seed)


def test_another_seed_gives_other_letters_and_all_places_are_used() -> None:
    found = records(200)
    first = [shuffle_choices(each, 1).tags["answer_label"] for each in found]
    second = [shuffle_choices(each, 2).tags["answer_label"] for each in found]
    assert first != second
    assert set(first) == set("ABCD")
    part = [shuffle_choices(each, 1).tags["answer_label"] for each in found[50:60]]
    assert part == first[50:60]


@pytest.mark.parametrize(
    "text",
    [
        *("All of the above", "none of the above.", "Both A and B", "A and C", "(A) or (D)"),
        *("Neither B nor C", "All of these", "A, B and C", "any of the following"),
    ],
)
def test_choices_that_speak_of_each_other_stay(text: str) -> None:
    before = record("q", ["lung", "liver", "kidney", text], 3)
    assert all(shuffle_choices(before, seed) == before for seed in range(5))


@pytest.mark.parametrize("text", ["Hepatitis A", "a and b waves", "Vitamin B and folate"])
def test_choices_that_only_look_so_are_shuffled(text: str) -> None:
    before = record("q", ["lung", "liver", "kidney", text], 3)
    assert any(shuffle_choices(before, seed) != before for seed in range(5))


def test_an_answer_that_is_none_of_the_choices_stays_one() -> None:
    before = Record("q", "q.png", "Which?", "bone", tags={"choice_a": "lung", "choice_b": "liver"})
    shuffled = [shuffle_choices(before, seed) for seed in range(8)]
    assert {each.answer for each in shuffled} == {"bone"}
    assert all("answer_label" not in each.tags for each in shuffled)
    assert {each.tags["choice_a"] for each in shuffled} == {"lung", "liver"}


def test_shuffled_data_is_written_with_its_images_found(tmp_path: Path) -> None:
    mixed = [
        *records(3),
        record("k", ["lung", "all of the above"], 1),
        Record("o", "o.png", "?", "yes"),
    ]
    write_records(tmp_path / "in/all.jsonl", mixed)
    done = shuffle_data(tmp_path / "in/all.jsonl", tmp_path / "out/all.jsonl", 3)
    assert (done.shuffled, done.kept, done.other) == (3, 1, 1)
    again = read_records(tmp_path / "out/all.jsonl")
    assert [each.id for each in again] == [each.id for each in mixed]
    assert (tmp_path / "out" / again[0].image).parent.resolve() == tmp_path / "in"
    write_records(tmp_path / "open.jsonl", mixed[-1:])
    with pytest.raises(InputError, match="no multiple choice to shuffle"):
        shuffle_data(tmp_path / "open.jsonl", tmp_path / "no.jsonl", 3)
    assert not (tmp_path / "no.jsonl").exists()


def test_answers_to_other_letters_are_other_data() -> None:
    found = records(5)
    assert split_checksum(found) == split_checksum([*reversed(found)])
    assert split_checksum(found) != split_checksum([shuffle_choices(each, 7) for each in found])


def evaluate(found: list[Record], said: list[str]) -> Evaluation:
    predictions = {r.id: Prediction(r.id, text) for r, text in zip(found, said, strict=True)}
    return score(found, predictions, get_profile("medevalkit-mcq"))


def test_a_model_that_always_says_c_is_seen_through() -> None:
    found = records(400)
    evaluation = evaluate(found, ["C"] * 400)
    bias = position_bias(evaluation.questions)
    assert bias is not None
    by_letter = {each.letter: each for each in bias.positions}
    share = sum(r.tags["answer_label"] == "C" for r in found) / 400
    assert by_letter["C"].bias.value == pytest.approx(1 - share)
    assert by_letter["C"].accuracy.value == 1
    assert by_letter["A"].accuracy.value == by_letter["A"].chosen == 0
    assert by_letter["A"].bias.high < 0 < by_letter["C"].bias.low
    assert bias.spread == pytest.approx(3**0.5 / 4)
    assert sum(each.right for each in bias.positions) == bias.questions == 400


def test_a_model_that_knows_shows_no_bias_by_letter_or_text() -> None:
    found = records(300)
    generator = random.Random(5)
    said = []
    for each in found:
        texts = choices_of(each)
        right = generator.random() < 0.7
        letter = each.tags["answer_label"] if right else generator.choice("ABCD")
        said.append(
            generator.choice([letter, f"({letter})", texts[letter], f"{letter}. {texts[letter]}"])
        )
    bias = position_bias(evaluate(found, said).questions)
    assert bias is not None
    assert bias.unread == 0
    assert bias.spread < 0.08
    assert all(each.bias.low < 0.03 and each.bias.high > -0.03 for each in bias.positions)


def test_answers_that_mean_no_choice_are_counted() -> None:
    bias = position_bias(evaluate(records(4), ["", "cannot say", "A", "brain"]).questions)
    assert bias is not None
    assert bias.unread == 3
    assert sum(each.chosen for each in bias.positions) == 1


def test_nothing_is_said_where_nothing_is_multiple_choice() -> None:
    found = [Record("1", "1.png", "?", "yes")]
    evaluation = evaluate(found, ["yes"])
    assert position_bias(evaluation.questions) is None
    assert analyse(evaluation).to_dict()["position_bias"] is None


def test_the_result_and_its_table_have_a_row_for_each_letter() -> None:
    result = analyse(evaluate(records(20), ["A"] * 20)).to_dict()
    table = positions_table(result["position_bias"])
    assert [row[0].text for row in table.rows] == list("ABCD")
    assert table.rows[0][2].text == "20"
    assert "20 multiple-choice questions; 0 answers mean none" in table.notes[0]
