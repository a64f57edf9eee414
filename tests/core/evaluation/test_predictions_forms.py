"""Predictions of other systems: JSONL, arrays, tables; and what is refused because it is unclear."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.data.records import Record, write_records
from biod2c_core.errors import InputError, RecordError
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.predict.predictions_file import Prediction, read_predictions
from biod2c_core.evaluation.request import Request

ROWS = [{"id": "1", "answer": "left lung", "confidence": 0.5}, {"id": "2", "answer": "naïve"}]
WANTED = {"1": ("left lung", 0.5), "2": ("naïve", None)}


def found(path: Path) -> dict[str, tuple[str, float | None]]:
    return {key: (p.answer, p.confidence) for key, p in read_predictions(path).items()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.txt", "p.csv"])
def test_json_in_every_form(name: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes("".join(json.dumps(r) + "\n" for r in ROWS).encode(encoding))
    assert found(path) == WANTED
    path.write_bytes(json.dumps(ROWS, indent=1).encode(encoding))
    assert found(path) == WANTED
    assert [p.line for p in read_predictions(path).values()] == [2, 7]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", [["id", "answer", "confidence"], ["Question ID", "Prediction", "Confidence"]]
)
def test_tables(header: list[str], delimiter: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        rows = [header, ["1", "left lung", "0.5"], ["2", "naïve", ""], ["3", "", "nan"]]
        csv.writer(file, delimiter=delimiter).writerows(rows)
    assert found(path) == {**WANTED, "3": ("", None)}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"id": "1", "answer": "gold", "text": "mine"},
            "which answer is meant, 'answer' and 'text'",
        ),
        ({"id": "1", "answer": "gold", "prediction": "mine"}, "'answer' and 'prediction'"),
        ({"id": "1", "answer": "gold", "pred": "mine"}, "'answer' and 'pred'"),
        ({"id": "1", "Answer": "gold", "Model Answer": "mine"}, "'answer' and 'model_answer'"),
        ({"id": "1", "text": "gold", "response": "mine"}, "'text' and 'response'"),
        ({"id": "1", "answer": "gold", "Answer": "mine"}, "'answer' is there twice"),
        ({"id": "1", "question_id": "2", "answer": "a"}, "which id is meant"),
        ({"id": 1.5, "answer": "a"}, "the id must be"),
        ({"id": "", "answer": "a"}, "the id must be"),
        ({"id": None, "answer": "a"}, "the id must be"),
        (
            {"id": "1", "gold": "a"},
            "no field 'answer' or 'prediction' or 'text'; there are 'id', 'gold'",
        ),
        ({"id": "1", "answer": True}, "must be text, got bool"),
        ({"id": "1", "answer": {"a": 1}}, "must be text, got dict"),
        ({"id": "1", "answer": "a", "confidence": True}, "from 0 to 1, got True"),
        ({"id": "1", "answer": "a", "confidence": "0.5"}, "from 0 to 1, got '0.5'"),
        ({"id": "1", "answer": "a", "confidence": 87}, "from 0 to 1, got 87"),
        ({"id": "1", "answer": "a", "confidence": -0.1}, "from 0 to 1"),
        ('{"id": "1", "answer": NaN}', "no NaN"),
        ('{"id": "1", "answer": "a", "confidence": Infinity}', "no NaN"),
        ('{"id": "1", "answer": "a", "answer": "b"}', "'answer' is there twice"),
        ('{"id": "1", "answer": 1e999}', "is inf"),
    ],
)
def test_what_is_unclear_is_refused(row: Any, said: str, tmp_path: Path) -> None:
    text = row if isinstance(row, str) else json.dumps(row)
    for name, content in (("p.jsonl", text), ("p.json", f"[\n{text}]")):
        (tmp_path / name).write_text(content, "utf-8")
        with pytest.raises(RecordError) as caught:
            read_predictions(tmp_path / name)
        assert said in str(caught.value)
        assert caught.value.line == 1 + (name == "p.json")


def test_two_answers_in_a_table_and_values_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,answer,prediction\n1,gold,mine\n", "utf-8")
    with pytest.raises(RecordError, match=r"p\.csv:2: which answer is meant"):
        read_predictions(path)
    path.write_text("id,answer,confidence\n1,a,high\n", "utf-8")
    with pytest.raises(RecordError, match="from 0 to 1, got 'high'"):
        read_predictions(path)
    path.write_text("name,said\n1,a\n", "utf-8")
    with pytest.raises(RecordError, match="there are 'name', 'said'"):
        read_predictions(path)


def test_whole_numbers_are_one_id_and_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 7.0, "answer": 2.0}\n{"id": 8, "answer": null}\n', "utf-8")
    assert found(path) == {"7": ("2", None), "8": ("", None)}
    path = tmp_path / "p.csv"
    path.write_text("id,answer\n7.0,2.0\n8.10,2.50\n", "utf-8")
    assert found(path) == {"7": ("2", None), "8.10": ("2.50", None)}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PREDICTIONS = st.builds(
    Prediction,
    id=st.uuids().map(str),
    answer=TEXT,
    confidence=st.none() | st.floats(0, 1),
)


@given(rows=st.lists(PREDICTIONS, min_size=1, max_size=4, unique_by=lambda row: row.id))
@settings(max_examples=50)
def test_what_is_written_is_read(
    rows: list[Prediction], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("p") / "p.jsonl"
    path.write_text("".join(json.dumps(row.to_row()) + "\n" for row in rows), "utf-8")
    wanted = {row.id: (row.answer, row.confidence) for row in rows}
    assert found(path) == wanted
    path.write_text("[" + ",\n".join(json.dumps(row.to_row()) for row in rows) + "]", "utf-8")
    assert found(path) == wanted


@pytest.mark.parametrize("confidence", [float("nan"), float("inf")])
def test_a_confidence_that_is_no_number_is_not_written(confidence: float) -> None:
    assert Prediction("1", "a", confidence).to_row() == {"id": "1", "answer": "a"}


def test_a_missing_predictions_file_needs_a_model(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write_records(data, [Record("1", "x.png", "q", "a", split="test")])
    asked: list[str | None] = []

    def load(checkpoint: str | None, device: str) -> Any:
        asked.append(checkpoint)
        raise InputError("loaded")

    missing = tmp_path / "theirs.json"
    with pytest.raises(InputError, match=r"no predictions at .*theirs\.json.*name the model"):
        evaluate(Request(data, predictions=missing), load)
    with pytest.raises(InputError, match="loaded"):
        evaluate(Request(data, predictions=missing, model="mine"), load)
    with pytest.raises(InputError, match="loaded"):
        evaluate(Request(data, run=tmp_path / "run"), load)
    assert asked == ["mine", None]
