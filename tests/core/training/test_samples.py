"""Samples are the bytes that tokenizing one record after the other gives, in memory that processes share."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.model.checkpoints.folder import EMBEDDED, load_processor
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.ops.together import alone, together
from biod2c_core.training.inputs import samples
from biod2c_core.training.inputs.collate import VQADataset
from biod2c_core.training.inputs.datasets import load_dataset, load_or_open, shared_samples
from biod2c_core.training.inputs.rows import Rows, RowWriter

Words = st.lists(
    st.sampled_from(["is", "the", "lesion", "left?", "Yes", "2", "ö", "\n", "  "]), max_size=6
).map(" ".join)


def one_by_one(record: Record, processor: Any, size: int) -> dict[str, list[Any]]:
    """How samples were made before: each text alone, written out."""

    def ids(text: str) -> list[int]:
        return processor.tokenizer(text, add_special_tokens=False).input_ids

    line = " ".join(record.question.split())
    begin = processor.begin_ids()
    prompt = begin + ids(processor.prompt.replace("{question}", line))
    both = begin + ids(f"{processor.prompt.replace('{question}', line)} {record.answer}")
    if both[: len(prompt)] != prompt:
        both = prompt + ids(f" {record.answer}")
    if both[-1] != processor.end_token_id:
        both = [*both, processor.end_token_id]
    reads = prompt if processor.fusion_reads == "prompt" else ids(line)
    most = processor.max_question_tokens
    return {
        "input_ids": both,
        "labels": [-100] * len(prompt) + both[len(prompt) :],
        "question_ids": reads[:most],
        "queue_ids": [ids(text)[:most] for text in record.queue[:size]],
    }


def tiny(**options: Any) -> BioD2CProcessor:
    return BioD2CProcessor(tiny_models.make_tokenizer(), 16, max_question_tokens=4, **options)


PROCESSORS = {
    "plain": tiny(),
    "merging": tiny(prompt="{question}\n"),
    "reads the prompt": tiny(fusion_reads="prompt"),
    "begins": BioD2CProcessor(tiny_models.tokenizer_with("<s> $A </s>"), 16),
    "embedded": load_processor(EMBEDDED),
}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(Words, Words, st.lists(Words, max_size=4)), min_size=1, max_size=7),
    st.sampled_from([*PROCESSORS]),
    st.integers(1, 4),
)
def test_samples_are_those_of_one_record_after_the_other(
    rows: list[tuple[str, str, list[str]]], name: str, part: int
) -> None:
    processor = PROCESSORS[name]
    records = [
        Record(f"r{n}", f"{n % 3}.png", f"what? {question}", f"{answer} a", queue=tuple(queue))
        for n, (question, answer, queue) in enumerate(rows)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "_PART", part)
        dataset = VQADataset(records, [Path("/images")] * len(records), processor, 3)
    for index, record in enumerate(records):
        got = dataset[index]
        for key, wanted in one_by_one(record, processor, 3).items():
            assert got[key] == wanted, key
        assert got["image"] == dataset.paths[index] == Path("/images") / record.image
        assert (got["row"], got["boxes"]) == (index, [])
    assert len(dataset.images) == len({record.image for record in records})


def test_many_texts_go_through_the_tokenizer_at_a_time_each_different_one_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor = tiny()
    asked: list[list[str]] = []
    batch = processor._all_plain_ids

    def noted(texts: list[str]) -> list[list[int]]:
        asked.append(texts)
        return batch(texts)

    monkeypatch.setattr(processor, "_all_plain_ids", noted)
    monkeypatch.setattr(processor, "_ids", None)  # none alone
    records = [Record(str(n), "0.png", "is it?", "no", queue=("a", "b")) for n in range(50)]
    VQADataset(records, [Path()] * 50, processor, 2)
    texts = [text for each in asked for text in each]
    assert len(asked) <= 4
    assert (
        len(texts) == len(set(texts)) == 5
    )  # prompt, prompt with answer, question, two of the queue


def test_another_process_maps_what_the_first_has_made(data: Path, tmp_path: Path) -> None:
    records = [Record("a", "0.png", "is it?", "no", queue=("b",), boxes=((0.0, 0.5, 0.5, 1.0),))]
    records.append(records[0].changed(id="b", image="1.png", tags={"k": "v"}, split="train"))
    first = VQADataset(records, [data.parent] * 2, tiny(), 2, True, tmp_path / "samples")
    other = VQADataset.open(tmp_path / "samples")
    worker = copy.deepcopy(other)  # as it is sent to a worker
    for index in range(2):
        assert first[index] == other[index] == worker[index]
    assert not hasattr(worker, "records")
    assert list(other.records) == records
    assert (other.records[-1], other.records[:1]) == (records[1], records[:1])
    assert isinstance(other._ids.flat, np.memmap)
    assert not other._ids.flat.flags.writeable
    with pytest.raises(InputError, match="first process of this machine"):
        VQADataset.open(tmp_path / "nothing")


@given(st.lists(st.lists(st.integers(-9, 9), max_size=20), max_size=12))
@settings(max_examples=20, deadline=None)
def test_rows_are_read_as_they_were_written(rows: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as name:
        folder = Path(name)
        patch.setattr("biod2c_core.training.inputs.rows._BATCH", 8)
        with RowWriter(folder, "numbers") as writer:
            for row in rows:
                writer.add(row)
        found = Rows(folder, "numbers")
        assert [found[index] for index in range(len(found))] == rows == list(found)
        assert found.lengths == [len(row) for row in rows]


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=6))
def test_together_is_alone_with_fewer_questions(works: list[list[int]]) -> None:
    def work(questions: list[int]) -> Any:
        total = 0
        for question in questions:
            total += yield question
        return total

    rounds: list[list[int]] = []

    def answers(questions: list[int]) -> list[int]:
        rounds.append(questions)
        return [10**question for question in questions]

    wanted = [alone(work(each), lambda question: 10**question) for each in works]
    assert together([work(each) for each in works], answers) == wanted
    assert len(rounds) == max(map(len, works), default=0)
    assert all(len(set(each)) == len(each) for each in rounds)


class Place:
    """Of a process among others."""

    def __init__(self, rank: int, here: int) -> None:
        self.process_index, self.local_process_index = rank, here


def test_the_folder_goes_with_the_run_and_with_what_a_kill_has_left(tmp_path: Path) -> None:
    left = tmp_path / "samples-4" / "train" / "ids.flat"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"torn")
    first: Any = Place(4, 0)
    other: Any = Place(5, 1)
    with shared_samples(tmp_path, first) as folder:
        assert not left.exists()
        folder.mkdir()
        with shared_samples(tmp_path, other) as same:
            assert same == folder
        assert folder.is_dir()  # only the first process removes it
    assert list(tmp_path.iterdir()) == []


def test_others_do_not_go_on_with_what_the_first_process_could_not_read(
    data: Path, tmp_path: Path
) -> None:
    model: Any = SimpleNamespace(
        config=SimpleNamespace(
            semantic_loss="off", num_visual_tokens=1, text_config=SimpleNamespace()
        )
    )
    stage: Any = SimpleNamespace(semantic_weight=0, queue_size=0, attention_weight=0)
    parts = (model, tiny(), stage, 1, lambda _: None)
    sources = {"train": [data], "validation": [data]}
    place = tmp_path / "samples"
    with pytest.raises(InputError, match="are also trained on"):
        load_or_open(sources, place, True, *parts)
    with pytest.raises(InputError, match="first process"):
        load_or_open(sources, place, False, *parts)
    (made,) = load_or_open({"train": [data]}, place, True, *parts)
    (opened,) = load_or_open({"train": [data]}, place, False, *parts)
    alone_ = load_dataset([data], "train", *parts)
    assert len(made) == len(opened) == len(alone_) == 12
    assert all(made[n] == opened[n] == alone_[n] for n in range(12))
