"""Text queues: complete, different, deterministic, and silent about the sample's own answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.curation.phrases import normalize
from biod2c_core.curation.retrieval import Entry, Knowledge
from biod2c_core.curation.text_queue import QueueBuilder, pick_texts
from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError

CAPTION = "Chest CT showing a large mass in the right upper lobe with pleural effusion."


def record(name: str, answer: str = "", **fields: object) -> Record:
    values = {"id": name, "image": "i.png", "question": "What is shown?", "answer": answer}
    return Record(**(values | fields))


def knowledge(*texts: str) -> Knowledge:
    return Knowledge([Entry((text,)) for text in texts])


def queues(records: list[Record], base: Knowledge | None = None, k: int = 30) -> list[list[str]]:
    builder = QueueBuilder(records, base, k)
    return [list(builder.build(item).queue) for item in records]


def test_the_caption_comes_first_then_facts_then_knowledge() -> None:
    records = [
        record("a", "right upper lobe", caption=CAPTION, tags={"modality": "CT", "qid": "7"}),
        record("b", "Adenocarcinoma"),
        record("c", "Yes"),
    ]
    base = knowledge("mass effect", "fish", "Adenocarcinoma of the lung", "pleural thickening")
    first, second, _ = queues(records, base)
    assert first[:3] == ["Chest CT", "large mass", "pleural effusion"]
    assert first[3:5] == ["CT", "Adenocarcinoma"]
    assert set(first[5:]) == {"Adenocarcinoma of the lung", "mass effect", "pleural thickening"}
    assert "fish" not in first
    assert "Yes" not in first
    assert "large mass in the right upper lobe" in second
    assert not any("adenocarcinoma" in text.lower() for text in second)


def test_other_splits_of_the_same_image_stay_unseen() -> None:
    records = [
        record("a", "Yes", split="train"),
        record("b", "Pneumonia", split="test"),
        record("c", "Effusion", split="train"),
    ]
    assert queues(records)[0] == ["Effusion"]


def test_the_search_is_not_led_by_the_answer() -> None:
    records = [record("a", "kidney", caption="Cyst of the kidney.")]
    base = knowledge("renal artery beside the kidneys", "kidneylike", "cyst wall")
    assert queues(records, base) == [["Cyst", "cyst wall"]]


def test_an_answer_inside_another_word_is_taken_only_where_nothing_else_is_left() -> None:
    texts = ["lymph node", "no fracture", "mass", "cyst"]
    assert pick_texts(lambda: iter(texts), "No", 2) == ["mass", "cyst"]
    assert pick_texts(lambda: iter(texts), "No", 3) == ["mass", "cyst", "lymph node"]
    assert pick_texts(lambda: iter(texts), "", 4) == texts


@given(
    st.lists(st.text("ab no-", max_size=8), max_size=12),
    st.text("abNo", max_size=3),
    st.integers(1, 6),
)
def test_no_queue_holds_the_answer_as_words(texts: list[str], answer: str, k: int) -> None:
    picked = pick_texts(lambda: iter(texts), answer, k)
    assert len(picked) <= k
    for text in picked:
        words = text.lower().replace("-", " ").split()
        assert not answer or answer.lower() not in words


def test_an_entry_gives_few_texts_until_all_entries_have_given_theirs() -> None:
    many = Entry(tuple(f"mass kind{n}" for n in range(9)))
    base = Knowledge([many, Entry(("mass in bone",))])
    (queue,) = queues([record("a", caption="A mass.")], base, k=8)
    assert queue[1:6] == [*(f"mass kind{n}" for n in range(4)), "mass in bone"]
    assert len(queue) == 8


def test_a_queue_is_never_filled_with_what_is_unrelated() -> None:
    (queue,) = queues([record("a", caption="Retinal drusen.")], knowledge("hip", "rib"))
    assert queue == ["Retinal drusen"]


def test_records_of_an_image_share_its_caption_and_the_report_adds_up() -> None:
    records = [record("a", "Yes", caption=CAPTION), record("b", "No")]
    builder = QueueBuilder(records, knowledge("effusion after trauma"), k=9)
    built = [builder.build(item) for item in records]
    assert built[0].queue[:3] == built[1].queue[:3]
    report = builder.report
    assert report.records == 2
    assert report.texts == sum(len(item.queue) for item in built)
    assert report.texts == report.from_caption + report.from_image + report.from_knowledge
    assert report.from_knowledge == 2


def test_k_must_be_positive() -> None:
    with pytest.raises(InputError, match="queue of 0 texts"):
        QueueBuilder([], None, 0)


@pytest.mark.real_data
def test_slake_gets_full_queues_without_the_answer(data_root: Path, tmp_path: Path) -> None:
    """With a knowledge base of the train split's facts and questions, as a user might make one."""
    records = read_records(data_root / "slake_text", split="test")
    train = json.loads((data_root / "slake_text" / "train.json").read_text("utf-8"))
    english = [row for row in train if row["q_lang"] == "en"]
    facts = {f"{row['location']}: {row['answer']}" for row in english}
    facts |= {row["question"] for row in english}
    builder = QueueBuilder(records, knowledge(*sorted(facts)))
    built = [builder.build(item) for item in records]
    assert len(records) == 1061
    assert builder.report.full > 1000  # some find too little in so small a knowledge base
    for item in built:
        assert len({normalize(text) for text in item.queue}) == len(item.queue)
        assert not any(item.answer.lower() in text.lower() for text in item.queue)
    again = QueueBuilder(records, knowledge(*sorted(facts)))
    assert [again.build(item).queue for item in records[:50]] == [i.queue for i in built[:50]]
