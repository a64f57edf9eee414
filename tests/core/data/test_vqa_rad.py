"""VQA-RAD's re-split: a fixture in its layout, and the published files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from biod2c_core.data.formats import find_format, image_root, read_records, stream_records
from biod2c_core.data.formats.base import Rejection
from biod2c_core.data.images import resolve_image
from biod2c_core.data.records import write_records
from biod2c_core.errors import InputError, RecordError

ROW = {
    "qid": 7,
    "image_name": "synpic1.jpg",
    "image_organ": "CHEST ",
    "answer": 2,
    "answer_type": "CLOSED ",
    "question_type": "COUNT",
    "question": " How many? ",
    "phrase_type": "freeform",
}


def layout(folder: Path, train: object, test: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "trainset.json").write_text(json.dumps(train, indent=1))
    (folder / "testset.json").write_text(json.dumps(test, indent=1))
    return folder


def test_fields_are_cleaned_and_ids_name_the_split(tmp_path: Path) -> None:
    first, second = read_records(layout(tmp_path / "rad", [ROW], [ROW]))
    assert first.to_json() == (
        '{"id": "vqa-rad-train-7", "image": "images/synpic1.jpg", "question": "How many?", "answer": "2", '
        '"answer_type": "CLOSED", "source": "vqa-rad", "split": "train", "tags": {"organ": "CHEST", '
        '"question_type": "COUNT", "phrase_type": "freeform"}}'
    )
    assert (second.id, second.split) == ("vqa-rad-test-7", "test")


def test_records_survive_the_way_through_canonical_jsonl(tmp_path: Path) -> None:
    source = layout(tmp_path / "rad", [ROW, {**ROW, "qid": 8}], [ROW])
    records = read_records(source)
    write_records(tmp_path / "out.jsonl", records)
    assert read_records(tmp_path / "out.jsonl") == records
    assert find_format(tmp_path / "out.jsonl").name == "jsonl"
    assert image_root(tmp_path / "out.jsonl") == tmp_path


def test_bad_rows_are_named_with_their_line(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "qid": 8, "question": " "}, "text", ROW, {**ROW, "qid": 9, "answer": [1]}]
    source = layout(tmp_path / "rad", rows, [])
    items = list(stream_records(source))
    bad = [item for item in items if isinstance(item, Rejection)]
    lines = (source / "trainset.json").read_text().splitlines()
    assert [item.reason for item in bad] == [
        "field 'question' is missing or empty",
        "expected a JSON object, got str",
        "id 'vqa-rad-train-7' occurs twice",
        "field 'answer' must be text, got list",
    ]
    assert lines[bad[1].line - 1].strip().startswith('"text"')
    assert lines[bad[0].line].strip() == '"qid": 8,'
    with pytest.raises(RecordError, match=r"trainset\.json:\d+: field 'question'"):
        read_records(source)


def test_split_filter_and_unknown_paths(tmp_path: Path) -> None:
    source = layout(tmp_path / "rad", [ROW], [])
    assert len(read_records(source, split="train")) == 1
    with pytest.raises(InputError, match=r"no record of split 'test'.*Splits there: train"):
        read_records(source, split="test")
    with pytest.raises(InputError, match="no data at"):
        read_records(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"unknown format 'x'.*vqa-rad"):
        read_records(source, format="x")
    with pytest.raises(InputError, match="no known format"):
        read_records(tmp_path)


@pytest.mark.real_data
def test_the_published_files(data_root: Path) -> None:
    folder = data_root / "vqa_rad"
    records = read_records(folder)
    counts = Counter((record.split, record.answer_type) for record in records)
    assert counts["train", "CLOSED"] + counts["train", "OPEN"] == 3064
    assert (counts["test", "CLOSED"], counts["test", "OPEN"]) == (272, 179)
    assert (
        sum(record.answer.lower() in ("yes", "no") for record in records if record.split == "test")
        == 251
    )
    images = {record.image for record in records}
    assert len(images) == 314
    assert all(resolve_image(image_root(folder), image).is_file() for image in images)
    assert len(read_records(folder / "testset.json")) == 451
