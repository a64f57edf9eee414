"""CSV, TSV and parquet of any delimiter, encoding, header and spelling of gaps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import layouts
import pytest
from layouts import PLAIN_ROW, parquet, read_all, text_lines

from biod2c_core.data.formats import (
    read_records,
)
from biod2c_core.data.importing import import_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError

HEADERS = [
    ["image", "question", "answer"],
    ["Image", "Question", "ANSWER"],
    ["image_path", "question", "ground_truth"],
    ["img", "query", "gold_answer"],
    [" Image Path ", "Question Text", "Gold"],
    ["imagePath", "questionText", "answer"],
    ["file_name", "prompt", "gt"],
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_encodings(delimiter: str, encoding: str, tmp_path: Path) -> None:
    for number, header in enumerate(HEADERS):
        path = tmp_path / f"{number}.CSV"
        with path.open("w", newline="", encoding=encoding) as file:
            rows = [
                header,
                ["x.png", "Is it, well; or | not?", "naïve café"],
                ["y.png", "q", "2.0"],
            ]
            csv.writer(file, delimiter=delimiter).writerows(rows)
        (first, second), bad, notes = read_all(path)
        assert not bad
        assert first.question == "Is it, well; or | not?"
        assert (first.answer, second.answer) == ("naïve café", "2")
        assert any("cp1252" in note for note in notes) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["gb18030", "cp1251", "shift_jis"])
def test_other_code_pages_are_not_guessed(encoding: str, tmp_path: Path) -> None:
    text = "Затемнение лёгкого" if encoding == "cp1251" else "左肺"
    path = tmp_path / "a.csv"
    path.write_bytes(f"image,question,answer\nx.png,q,{text}\ny.png,q,a\n".encode(encoding))
    records, bad, _ = read_all(path)
    assert [record.answer for record in records] == ["a"]
    assert "broken character" in bad[0]


def test_bytes_that_are_not_utf_16_are_refused_with_their_row(tmp_path: Path) -> None:
    half = "\ud83e".encode("utf-16-le", "surrogatepass")  # the first half of a pair alone
    lines = (
        "\ufeffimage,question,answer\nx.png,q,".encode("utf-16-le"),
        "\ny.png,q,a\n".encode("utf-16-le"),
    )
    (tmp_path / "a.csv").write_bytes(half.join(lines))
    records, bad, _ = read_all(tmp_path / "a.csv")
    assert [record.answer for record in records] == ["a"]
    assert "bytes that are not utf-16" in bad[0]


def test_the_line_of_excel_that_names_the_delimiter(tmp_path: Path) -> None:
    layouts.write(tmp_path / "a.csv", "sep=;\r\nimage;question, perhaps;question\r\nx.png;no;q\r\n")
    (record,), _, _ = read_all(tmp_path / "a.csv")
    assert (record.question, record.tags, record.id) == (
        "q",
        {"question, perhaps": "no"},
        f"{tmp_path.name}-a-3",
    )


def test_json_lines_in_utf_16_and_behind_a_bad_line(tmp_path: Path) -> None:
    text = (
        '{"broken\n'
        + json.dumps({**PLAIN_ROW, "id": "é", "split": "test"}, ensure_ascii=False)
        + "\n"
    )
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        (tmp_path / "a.jsonl").write_bytes(text.encode(encoding))
        (record,), bad, _ = read_all(tmp_path / "a.jsonl")
        assert (record.id, record.split, bad) == ("é", "test", ["not JSON"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "picture_id,question\n1,q\n", "it has picture_id, question; missing: image"),
        ("a.csv", "image,finding\nx,y\n", "it has finding, image; missing: question (or caption)"),
        ("a.tsv", "a\tb\n1\t2\n", "it has a, b; missing: image, question (or caption)"),
        ("a.jsonl", '{"img": "x", "q": "y"}\n', "it has img, q; missing: image, question"),
        ("a.jsonl", '{"img": "x", "img": "y"}', "it has img; missing: image, question"),
        ("a.json", '[{"messages": []}]', "it has messages; missing: image, question"),
    ],
)
def test_a_table_of_no_format_says_what_it_has_and_lacks(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    layouts.write(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        read_records(tmp_path / name)
    assert said in str(caught.value)


def test_gaps_of_tables_are_no_answers_and_are_told(tmp_path: Path) -> None:
    gaps = ["nan", "NaN", "None", "null", "<NA>", "", "none", "nano"]
    layouts.write_csv(
        tmp_path / "a.csv", ["id", *PLAIN_ROW], [["nan", "x.png", "q", gap] for gap in gaps]
    )
    records, bad, notes = read_all(tmp_path / "a.csv")
    assert not bad
    assert [record.answer for record in records] == [""] * 6 + ["none", "nano"]
    assert notes[0].startswith("taken for empty: answer nan (1 row), id nan (8 rows), answer NaN")
    layouts.write_csv(tmp_path / "b.csv", [*PLAIN_ROW], [["nan", "q", "a"], ["x.png", "None", "a"]])
    assert read_all(tmp_path / "b.csv")[1] == [
        "field 'image' is missing or empty",
        "field 'question' is missing or empty",
    ]


def test_every_field_has_a_column(tmp_path: Path) -> None:
    header = [
        *PLAIN_ROW,
        "ID",
        "Answer Type",
        "partition",
        "boxes",
        "tags",
        "queue",
        "Age",
        "subset",
    ]
    boxes = [["[[0, 0, 0.5, 1]]", "one"], ["[[0,0,9,9]]", "two"], ["left", "three"]]
    rows = [
        [*PLAIN_ROW.values(), f"{n}.0", "closed", "Val", box, '{"a": "b"}', "c; d", "4", "x"]
        for n, (box, _) in enumerate(boxes)
    ]
    layouts.write_csv(tmp_path / "a.csv", header, rows)
    (record,), bad, _ = read_all(tmp_path / "a.csv")
    assert record == Record(
        **{**PLAIN_ROW, "id": "0", "answer_type": "CLOSED", "split": "validation"},
        boxes=((0, 0, 0.5, 1),),
        tags={"a": "b", "Age": "4", "subset": "x"},
        queue=("c", "d"),
        source=tmp_path.name,
    )
    assert ["boxes" in reason for reason in bad] == [True, True]


def test_two_columns_of_gold_answers_that_differ_are_refused(tmp_path: Path) -> None:
    rows = [
        ["x.png", "q", "lung", "Lung"],
        ["x.png", "q", "lung", "liver"],
        ["x.png", "q", "a", ""],
    ]
    layouts.write_csv(tmp_path / "a.csv", [*PLAIN_ROW, "ground_truth"], rows)
    records, bad, _ = read_all(tmp_path / "a.csv")
    assert [record.answer for record in records] == ["lung", "a"]
    assert bad == ["which is the gold answer, column 'answer' or 'ground_truth'?"]


def test_parquet_columns(tmp_path: Path) -> None:
    image = layouts.picture_bytes(1)
    nan = float("nan")
    table = {
        "img": [image, {"bytes": image, "path": "x"}, image, image][:1] * 4,
        "Question": ["q"] * 4,
        "answer": [2.0, nan, 2.5, None],
        "question_id": [7.0, 8.0, nan, None],
        "split": ["train", "Test", "val", None],
        "answer_type": ["OPEN ", "closed", None, ""],
        "modality": ["CT", None, "MR", "CT"],
        "scores": [[1.0], [2.0], [], [3.0]],
    }
    records, bad, notes = read_all(parquet(tmp_path / "x.parquet", table))
    assert not bad
    assert [r.answer for r in records] == ["2", "", "2.5", ""]
    assert [r.id for r in records] == ["7", "8", f"{tmp_path.name}-x-3", f"{tmp_path.name}-x-4"]
    assert [r.split for r in records] == ["train", "test", "validation", ""]
    assert [r.answer_type for r in records] == ["OPEN", "CLOSED", "OPEN", ""]
    assert records[0].tags == {"modality": "CT"}
    assert "not carried over: scores (3 rows)" in notes
    assert "kept as tags: modality (3 rows)" in notes


def test_parquet_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    image = layouts.picture_bytes(1)
    path = parquet(tmp_path / "x.parquet", {"image": [image], "text": ["q"]})
    assert "missing: question (or caption)" in read_all(path)[1][0]
    path = parquet(tmp_path / "x.parquet", {"image": ["a.png"], "question": ["q"]})
    assert "holds no bytes of an image, but str" in read_all(path)[1][0]
    path = parquet(tmp_path / "x.parquet", {"image": [image], "question": ["q"], "answer": [True]})
    assert read_all(path)[1] == ["field 'answer' must be text, got bool"]


def test_equal_ids_in_two_parquet_files_are_kept_apart(tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = {"image": [layouts.picture_bytes(1)], "question": ["q"], "id": [0]}
        parquet(tmp_path / f"data/{split}.parquet", table)
    records, bad, notes = read_all(tmp_path, tmp_path / "images")
    assert not bad
    assert [r.id for r in records] == ["0", "train-0"]
    assert "ids used in two files" in notes[0]


def test_an_import_names_once_what_it_does_not_carry_over(tmp_path: Path) -> None:
    report = import_records(layouts.slake(tmp_path / "set"), tmp_path / "out.jsonl")
    assert report.notes == [
        "not carried over: img_id (2 rows), triple (2 rows)",
        "left out, in another language: zh (1 row)",
    ]
    report = import_records(layouts.pmc_oa(tmp_path / "oa"), tmp_path / "oa.jsonl")
    assert report.notes == ["not carried over: pmcid (1 row)"]
    many = [{**PLAIN_ROW, "queue": "a", f"field{n}": 1} for n in range(90)]
    report = import_records(text_lines(tmp_path / "m/a.jsonl", many), tmp_path / "m.jsonl")
    assert len(report.notes) == 1
    assert report.notes[0].endswith(", (others) (40 rows)")
