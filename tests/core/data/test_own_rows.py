"""What a row of our own has besides, and odd values: kept, refused, never lost."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import layouts
import pytest
from layouts import PLAIN_ROW, read_all, text_lines

from biod2c_core.data.formats import (
    find_format,
    read_records,
)
from biod2c_core.data.records import Record


@pytest.mark.parametrize(
    "extra",
    [
        {"id": "7"},
        {"split": "test"},
        {"Split": "Test"},
        {"answer_type": "OPEN"},
        {"tags": {"organ": "x"}},
        {"boxes": [[0, 0, 1, 1]]},
        {"source": "mine"},
        {"caption": "A film."},
        {"queue": ["a"], "split": "val"},
    ],
)
def test_any_own_field_makes_a_file_ours_and_others_become_tags(
    extra: dict[str, Any], tmp_path: Path
) -> None:
    path = text_lines(tmp_path / "a.jsonl", [{**PLAIN_ROW, **extra, "modality": "CT", "age": 45.0}])
    assert find_format(path).name == "jsonl"
    (record,), bad, notes = read_all(path)
    assert not bad
    assert "kept as tags: modality (1 row), age (1 row)" in notes
    assert record.tags == {**extra.get("tags", {}), "modality": "CT", "age": "45"}
    assert record.id == extra.get("id", "a-1")
    assert record.answer_type == extra.get("answer_type", "")
    assert len(record.boxes) == len(extra.get("boxes", []))
    assert (
        record.split
        == {"test": "test", "val": "validation", "": ""}[
            str(extra.get("split", extra.get("Split", ""))).lower()
        ]
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**PLAIN_ROW, "id": "1", "splt": "test"}, "is 'split' meant"),
        ({**PLAIN_ROW, "id": "1", "Tag": {"a": "b"}}, "is 'tags' meant"),
        ({**PLAIN_ROW, "id": "1", "split": "test", "Split": "train"}, "'split' is there twice"),
        ({**PLAIN_ROW, "id": "1", "split": "holdout"}, "'split' is 'holdout'"),
        ({**PLAIN_ROW, "id": "1", "turns": [1, 2]}, "unknown field 'turns'"),
        ({**PLAIN_ROW, "id": "1", "image": "a\0.png"}, "field 'image' holds a null character"),
        ({**PLAIN_ROW, "id": "1", "organ": "a", "tags": {"organ": "b"}}, "also a tag"),
        ({"id": "1", "question": "q"}, "'image' is missing"),
        ({"id": "1", "image": "x.png", "answer": "a"}, "'question' is missing"),
        ('{"image": "x.png", "question": "q", "split": "test", "split": "train"}', "twice"),
        ('{"image": "x.png", "question": "q", "id": "1", "tags": {"a": "b", "a": "c"}}', "twice"),
        ({**PLAIN_ROW, "id": "1", "answer": True}, "must be text, got bool"),
        ({**PLAIN_ROW, "id": True}, "must be text, got bool"),
        ({**PLAIN_ROW, "id": "1", "answer": ["a"]}, "must be text, got list"),
        ('{"id": "1", "image": "x.png", "question": "q", "answer": NaN}', "no NaN"),
        ('{"id": "1", "image": "x.png", "question": "q", "answer": -Infinity}', "no NaN"),
        ('{"id": "1", "image": "x.png", "question": "q", "extra": NaN}', "no NaN"),
        ('{"id": "1", "image": "x.png", "question": "q", "answer": 1e999}', "is inf"),
        ('{"id": "1", "image": "x.png", "question": "q", "boxes": [[0, 0, 1, NaN]]}', "no NaN"),
    ],
)
def test_what_does_not_fit_is_a_bad_row(row: Any, reason: str, tmp_path: Path) -> None:
    good = {**PLAIN_ROW, "id": "0", "split": "train"}
    records, bad, _ = read_all(text_lines(tmp_path / "a.jsonl", [row, good]))
    assert [record.id for record in records] == ["0"]
    assert len(bad) == 1
    assert reason in bad[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (2, "2"),
        (2.5, "2.5"),
        (None, ""),
        ("", ""),
        (-0.0, "0"),
        (" a ", "a"),
        ("0", "0"),
    ],
)
def test_values_as_text(value: Any, text: str, tmp_path: Path) -> None:
    row = {**PLAIN_ROW, "answer": value, "id": value, "queue": None, "boxes": None, "tags": None}
    (record,), bad, _ = read_all(
        text_lines(tmp_path / "a.jsonl", [{**row, "split": None, "caption": None}])
    )
    assert not bad
    assert (record.answer, record.id) == (text, text or "a-1")
    table = json.dumps([{**layouts.SLAKE_ROW, "answer": value}])
    layouts.write(tmp_path / "slake/train.json", table)
    assert read_records(tmp_path / "slake")[0].answer == text


def test_nan_in_an_array_spoils_its_element_only(tmp_path: Path) -> None:
    rows = [{**layouts.SLAKE_ROW, "answer": float("nan")}, {**layouts.SLAKE_ROW, "qid": 8}]
    layouts.write(tmp_path / "train.json", json.dumps(rows))
    (record,), bad, _ = read_all(tmp_path / "train.json")
    assert record.id == "slake-train-8"
    assert "no NaN" in bad[0]
    twice = json.dumps(rows[1:]).replace('"answer": "Yes"', '"answer": "Yes", "answer": "No"')
    layouts.write(tmp_path / "train.json", twice[:-1] + ", " + json.dumps(layouts.SLAKE_ROW) + "]")
    (record,), bad, _ = read_all(tmp_path / "train.json")
    assert bad == ["field 'answer' is there twice"]


def test_no_record_with_nan_is_written() -> None:
    with pytest.raises(ValueError):
        Record("1", "x.png", "q", boxes=((0.0, 0.0, float("nan"), 1.0),)).to_json()


ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "slake": ("train.json", layouts.SLAKE_ROW),
    "vqa-rad": ("trainset.json", layouts.RAD_ROW),
    "llava-med": ("a.json", {"id": "a", "image": "x", "conversations": layouts.CONVERSATION}),
    "pmc-oa": ("a.jsonl", {"image": "x.jpg", "caption": "A lung."}),
    "image-folder": ("metadata.jsonl", {"file_name": "x.png", "text": "A cell."}),
    "path-vqa": ("pvqa/qas/train/train_qa.pkl", layouts.PATH_ROW),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_published_layout_keeps_the_fields_of_a_record_and_names_the_others(
    name: str, tmp_path: Path
) -> None:
    file, row = ROWS[name]
    ours = {"split": "val", "boxes": [[0, 0, 0.5, 1]], "source": "mine", "queue": ["a"]}
    row = {**row, **ours, "tags": {"age": "4"}, "scanner": "A", "notes": [1], "empty": None}
    path = tmp_path / file
    if file.endswith(".pkl"):
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps([row]))
    else:
        layouts.write(path, [row] if file.endswith(".json") else json.dumps(row) + "\n")
    layouts.picture(tmp_path / "x.png")
    source = tmp_path if name in ("image-folder", "path-vqa", "vqa-rad", "slake") else path
    assert find_format(source).name == name
    (record,), bad, notes = read_all(source)
    assert not bad
    assert (record.split, record.source, record.queue) == ("validation", "mine", ("a",))
    assert record.boxes == ((0, 0, 0.5, 1),)
    assert record.tags["age"] == "4"
    told = next(note for note in notes if note.startswith("not carried over"))
    assert "scanner (1 row)" in told
    assert "notes (1 row)" in told
    assert "empty" not in told
