"""No field of a row is lost without a word: splits, ids, odd values, spellings of tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import layouts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.data.formats import (
    ReadOptions,
    Rejection,
    find_format,
    read_records,
    stream_records,
)
from biod2c_core.data.importing import import_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.training.inputs.datasets import meant_for

BASE = {"image": "x.png", "question": "What?", "answer": "lung"}


def lines(path: Path, rows: Sequence[Any]) -> Path:
    layouts.write(path, "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def read(path: Path) -> tuple[list[Record], list[str], list[str]]:
    """Records, reasons of bad rows, notes."""
    options = ReadOptions(image_dir=path.parent)
    items = list(stream_records(path, options=options))
    bad = [item.reason for item in items if isinstance(item, Rejection)]
    return [item for item in items if isinstance(item, Record)], bad, options.notes.lines()


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
    path = lines(tmp_path / "a.jsonl", [{**BASE, **extra, "modality": "CT", "age": 45.0}])
    assert find_format(path).name == "jsonl"
    (record,), bad, notes = read(path)
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
        ({**BASE, "id": "1", "splt": "test"}, "is 'split' meant"),
        ({**BASE, "id": "1", "Tag": {"a": "b"}}, "is 'tags' meant"),
        ({**BASE, "id": "1", "split": "test", "Split": "train"}, "'split' is there twice"),
        ({**BASE, "id": "1", "split": "holdout"}, "'split' is 'holdout'"),
        ({**BASE, "id": "1", "turns": [1, 2]}, "unknown field 'turns'"),
        ({**BASE, "id": "1", "organ": "a", "tags": {"organ": "b"}}, "also a tag"),
        ({"id": "1", "question": "q"}, "'image' is missing"),
        ({"id": "1", "image": "x.png", "answer": "a"}, "'question' is missing"),
        ('{"image": "x.png", "question": "q", "split": "test", "split": "train"}', "twice"),
        ('{"image": "x.png", "question": "q", "id": "1", "tags": {"a": "b", "a": "c"}}', "twice"),
        ({**BASE, "id": "1", "answer": True}, "must be text, got bool"),
        ({**BASE, "id": True}, "must be text, got bool"),
        ({**BASE, "id": "1", "answer": ["a"]}, "must be text, got list"),
        ('{"id": "1", "image": "x.png", "question": "q", "answer": NaN}', "no NaN"),
        ('{"id": "1", "image": "x.png", "question": "q", "answer": -Infinity}', "no NaN"),
        ('{"id": "1", "image": "x.png", "question": "q", "extra": NaN}', "no NaN"),
        ('{"id": "1", "image": "x.png", "question": "q", "answer": 1e999}', "is inf"),
        ('{"id": "1", "image": "x.png", "question": "q", "boxes": [[0, 0, 1, NaN]]}', "no NaN"),
    ],
)
def test_what_does_not_fit_is_a_bad_row(row: Any, reason: str, tmp_path: Path) -> None:
    good = {**BASE, "id": "0", "split": "train"}
    records, bad, _ = read(lines(tmp_path / "a.jsonl", [row, good]))
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
    row = {**BASE, "answer": value, "id": value, "queue": None, "boxes": None, "tags": None}
    (record,), bad, _ = read(lines(tmp_path / "a.jsonl", [{**row, "split": None, "caption": None}]))
    assert not bad
    assert (record.answer, record.id) == (text, text or "a-1")
    table = json.dumps([{**layouts.SLAKE_ROW, "answer": value}])
    layouts.write(tmp_path / "slake/train.json", table)
    assert read_records(tmp_path / "slake")[0].answer == text


def test_nan_in_an_array_spoils_its_element_only(tmp_path: Path) -> None:
    rows = [{**layouts.SLAKE_ROW, "answer": float("nan")}, {**layouts.SLAKE_ROW, "qid": 8}]
    layouts.write(tmp_path / "train.json", json.dumps(rows))
    (record,), bad, _ = read(tmp_path / "train.json")
    assert record.id == "slake-train-8"
    assert "no NaN" in bad[0]
    twice = json.dumps(rows[1:]).replace('"answer": "Yes"', '"answer": "Yes", "answer": "No"')
    layouts.write(tmp_path / "train.json", twice[:-1] + ", " + json.dumps(layouts.SLAKE_ROW) + "]")
    (record,), bad, _ = read(tmp_path / "train.json")
    assert bad == ["field 'answer' is there twice"]


def test_no_record_with_nan_is_written() -> None:
    with pytest.raises(ValueError):
        Record("1", "x.png", "q", boxes=((0.0, 0.0, float("nan"), 1.0),)).to_json()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((f"{word}.csv", "") for word in ("device", "valve", "testis", "valgus", "trainee")),
        *((f"{word}.csv", "") for word in ("contest", "interval", "development", "train-and-test")),
        ("train_2.csv", "train"),
        ("train2.csv", "train"),
        ("TEST.csv", "test"),
        ("rad-test.csv", "test"),
        ("validate.csv", "validation"),
        ("dev.csv", "validation"),
        ("my.valid.01.csv", "validation"),
    ],
)
def test_a_file_name_says_a_split_in_whole_words_only(
    name: str, split: str, tmp_path: Path
) -> None:
    layouts.write_csv(tmp_path / name, ["image", "question"], [["x.png", "q"]])
    assert read_records(tmp_path / name)[0].split == split


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
        (first, second), bad, notes = read(path)
        assert not bad
        assert first.question == "Is it, well; or | not?"
        assert (first.answer, second.answer) == ("naïve café", "2")
        assert any("cp1252" in note for note in notes) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["gb18030", "cp1251", "shift_jis"])
def test_other_code_pages_are_not_guessed(encoding: str, tmp_path: Path) -> None:
    text = "Затемнение лёгкого" if encoding == "cp1251" else "左肺"
    path = tmp_path / "a.csv"
    path.write_bytes(f"image,question,answer\nx.png,q,{text}\ny.png,q,a\n".encode(encoding))
    records, bad, _ = read(path)
    assert [record.answer for record in records] == ["a"]
    assert "broken character" in bad[0]


def test_the_line_of_excel_that_names_the_delimiter(tmp_path: Path) -> None:
    layouts.write(tmp_path / "a.csv", "sep=;\r\nimage;question, perhaps;question\r\nx.png;no;q\r\n")
    (record,), _, _ = read(tmp_path / "a.csv")
    assert (record.question, record.tags, record.id) == (
        "q",
        {"question, perhaps": "no"},
        f"{tmp_path.name}-a-3",
    )


def test_json_lines_in_utf_16_and_behind_a_bad_line(tmp_path: Path) -> None:
    text = (
        '{"broken\n' + json.dumps({**BASE, "id": "é", "split": "test"}, ensure_ascii=False) + "\n"
    )
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        (tmp_path / "a.jsonl").write_bytes(text.encode(encoding))
        (record,), bad, _ = read(tmp_path / "a.jsonl")
        assert (record.id, record.split, bad) == ("é", "test", ["not JSON"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "picture_id,question\n1,q\n", "it has picture_id, question; missing: image"),
        ("a.csv", "image,finding\nx,y\n", "it has finding, image; missing: question (or caption)"),
        ("a.tsv", "a\tb\n1\t2\n", "it has a, b; missing: image, question (or caption)"),
        ("a.jsonl", '{"img": "x", "q": "y"}\n', "it has img, q; missing: image, question"),
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
        tmp_path / "a.csv", ["id", *BASE], [["nan", "x.png", "q", gap] for gap in gaps]
    )
    records, bad, notes = read(tmp_path / "a.csv")
    assert not bad
    assert [record.answer for record in records] == [""] * 6 + ["none", "nano"]
    assert notes[0].startswith("taken for empty: answer nan (1 row), id nan (8 rows), answer NaN")
    layouts.write_csv(tmp_path / "b.csv", [*BASE], [["nan", "q", "a"], ["x.png", "None", "a"]])
    assert read(tmp_path / "b.csv")[1] == [
        "field 'image' is missing or empty",
        "field 'question' is missing or empty",
    ]


def test_every_field_has_a_column(tmp_path: Path) -> None:
    header = [*BASE, "ID", "Answer Type", "partition", "boxes", "tags", "queue", "Age", "subset"]
    boxes = [["[[0, 0, 0.5, 1]]", "one"], ["[[0,0,9,9]]", "two"], ["left", "three"]]
    rows = [
        [*BASE.values(), f"{n}.0", "closed", "Val", box, '{"a": "b"}', "c; d", "4", "x"]
        for n, (box, _) in enumerate(boxes)
    ]
    layouts.write_csv(tmp_path / "a.csv", header, rows)
    (record,), bad, _ = read(tmp_path / "a.csv")
    assert record == Record(
        **{**BASE, "id": "0", "answer_type": "CLOSED", "split": "validation"},
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
    layouts.write_csv(tmp_path / "a.csv", [*BASE, "ground_truth"], rows)
    records, bad, _ = read(tmp_path / "a.csv")
    assert [record.answer for record in records] == ["lung", "a"]
    assert bad == ["which is the gold answer, column 'answer' or 'ground_truth'?"]


def parquet(path: Path, table: dict[str, Any]) -> Path:
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


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
    records, bad, notes = read(parquet(tmp_path / "x.parquet", table))
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
    assert "missing: question (or caption)" in read(path)[1][0]
    path = parquet(tmp_path / "x.parquet", {"image": ["a.png"], "question": ["q"]})
    assert "holds no bytes of an image, but str" in read(path)[1][0]
    path = parquet(tmp_path / "x.parquet", {"image": [image], "question": ["q"], "answer": [True]})
    assert read(path)[1] == ["field 'answer' must be text, got bool"]


def test_equal_ids_in_two_parquet_files_are_kept_apart(tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = {"image": [layouts.picture_bytes(1)], "question": ["q"], "id": [0]}
        parquet(tmp_path / f"data/{split}.parquet", table)
    records, bad, notes = read_folder(tmp_path)
    assert not bad
    assert [r.id for r in records] == ["0", "train-0"]
    assert "ids used in two files" in notes[0]


def read_folder(path: Path) -> tuple[list[Record], list[str], list[str]]:
    options = ReadOptions(image_dir=path / "images")
    items = list(stream_records(path, options=options))
    bad = [item.reason for item in items if isinstance(item, Rejection)]
    return [item for item in items if isinstance(item, Record)], bad, options.notes.lines()


def test_an_import_names_once_what_it_does_not_carry_over(tmp_path: Path) -> None:
    report = import_records(layouts.slake(tmp_path / "set"), tmp_path / "out.jsonl")
    assert report.notes == [
        "not carried over: img_id (2 rows), triple (2 rows)",
        "left out, in another language: zh (1 row)",
    ]
    report = import_records(layouts.pmc_oa(tmp_path / "oa"), tmp_path / "oa.jsonl")
    assert report.notes == ["not carried over: pmcid (1 row)"]
    many = [{**BASE, "queue": "a", f"field{n}": 1} for n in range(90)]
    report = import_records(lines(tmp_path / "m/a.jsonl", many), tmp_path / "m.jsonl")
    assert len(report.notes) == 1
    assert report.notes[0].endswith(", (others) (40 rows)")


# layout -> how its rows stand in a file; a field "split" is put into each
LEAKY: dict[str, Callable[[Path, list[str]], Path]] = {}


def leaky(write: Callable[[Path, list[str]], Path]) -> Callable[[Path, list[str]], Path]:
    LEAKY[write.__name__] = write
    return write


@leaky
def own(folder: Path, splits: list[str]) -> Path:
    rows = [{**BASE, "split": split, "scanner": "A"} for split in splits]
    return lines(folder / "a.jsonl", rows)


@leaky
def own_by_files(folder: Path, splits: list[str]) -> Path:
    for split in splits:
        name = {"train": "train", "val": "val", "test": "test"}[split]
        lines(folder / f"{name}.jsonl", [{"id": split, **BASE}])
    return folder


@leaky
def biovgq(folder: Path, splits: list[str]) -> Path:
    rows = [{**BASE, "queue": "a, b"}] * 25 + [{**BASE, "split": split} for split in splits]
    return lines(folder / "a.jsonl", rows)


@leaky
def pmc_oa(folder: Path, splits: list[str]) -> Path:
    rows = [{"image": "x.png", "caption": "A lung.", "split": split} for split in splits]
    return lines(folder / "a.jsonl", rows)


@leaky
def slake(folder: Path, splits: list[str]) -> Path:
    rows = [{**layouts.SLAKE_ROW, "qid": n, "split": split} for n, split in enumerate(splits)]
    layouts.write(folder / "all.json", rows)
    return folder / "all.json"


@leaky
def vqa_rad(folder: Path, splits: list[str]) -> Path:
    rows = [{**layouts.RAD_ROW, "qid": n, "Split": split} for n, split in enumerate(splits)]
    layouts.write(folder / "VQA_RAD Dataset Public.json", rows)
    return folder


@leaky
def llava_med(folder: Path, splits: list[str]) -> Path:
    rows = [
        {"id": str(n), "image": "x", "conversations": layouts.CONVERSATION * 2, "split": split}
        for n, split in enumerate(splits)
    ]
    layouts.write(folder / "a.json", rows)
    return folder / "a.json"


@leaky
def pmc_vqa(folder: Path, splits: list[str]) -> Path:
    header = ["Figure_path", "Question", "Answer", *layouts.CHOICES, "split"]
    rows = [["x.png", "q", "A", *layouts.TEXTS, split] for split in splits]
    layouts.write_csv(folder / "all.csv", header, rows)
    return folder / "all.csv"


@leaky
def path_vqa(folder: Path, splits: list[str]) -> Path:
    return layouts.path_vqa(folder)


@leaky
def plain_csv(folder: Path, splits: list[str]) -> Path:
    layouts.write_csv(
        folder / "a.csv", [*BASE, "Subset"], [[*BASE.values(), split.upper()] for split in splits]
    )
    return folder / "a.csv"


@leaky
def image_folder(folder: Path, splits: list[str]) -> Path:
    for split in splits:
        layouts.picture(folder / split / "a.png")
        layouts.write(folder / split / "a.txt", "A cell.")
    return folder


@leaky
def image_folder_table(folder: Path, splits: list[str]) -> Path:
    layouts.picture(folder / "a.png")
    rows = [{"file_name": f"{s}.png", "text": "A cell.", "split": s} for s in splits]
    lines(folder / "metadata.jsonl", rows)
    return folder


@leaky
def hub_parquet(folder: Path, splits: list[str]) -> Path:
    count = len(splits)
    table = {
        "image": [layouts.picture_bytes(1)] * count,
        "question": ["q"] * count,
        "split": splits,
    }
    return parquet(folder / "a.parquet", table)


@pytest.mark.parametrize("name", LEAKY)
def test_no_test_row_is_trained_on(name: str, tmp_path: Path) -> None:
    source = LEAKY[name](tmp_path / "set", ["train", "val", "test"])
    records = read_records(source, options=ReadOptions(image_dir=tmp_path / "images"))
    assert {"train", "validation", "test"} <= {record.split for record in records} | {"train"}
    told: list[str] = []
    for split, allowed in (("train", {"train", ""}), ("validation", {"validation"})):
        chosen = meant_for(records, split, source, told.append)
        assert {record.split for record in chosen} <= allowed
        assert chosen
        assert f"{len(chosen)} of {len(records)} rows are for {split}" in told[-1]


def test_validation_without_a_row_for_it_is_refused(tmp_path: Path) -> None:
    records = [Record(str(n), "x", "q", split=split) for n, split in enumerate(["train", "test"])]
    with pytest.raises(InputError, match=r"has splits, but no validation row \(train 1, test 1\)"):
        meant_for(records, "validation", tmp_path, print)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TEXT = TEXT.map(str.strip)
FILLED = TEXT.filter(bool)
ROWS = st.builds(
    Record,
    id=st.uuids().map(str),
    image=st.just("x.png"),
    question=FILLED.map(lambda text: f"{text}?"),
    answer=FILLED | st.sampled_from(["2.0", "nan", "None", "1e5", "=1", '"', "a;b", "NaN"]),
    answer_type=st.sampled_from(["CLOSED", "OPEN"]),
    caption=TEXT,
    queue=st.lists(FILLED.filter(lambda t: ";" not in t), max_size=2).map(tuple),
    boxes=st.just(()) | st.just(((0.0, 0.25, 0.5, 1.0),)),
    source=st.just("set"),
    split=st.sampled_from(["train", "validation", "test"]),
    tags=st.dictionaries(FILLED, FILLED, max_size=2),
)


def as_csv(path: Path, rows: list[Record]) -> Path:
    header = list(vars(rows[0]))
    layouts.write_csv(
        path.with_suffix(".csv"), header, [[cell(v) for v in vars(r).values()] for r in rows]
    )
    return path.with_suffix(".csv")


def cell(value: Any) -> str:
    if isinstance(value, dict) or (value and isinstance(value[0], tuple)):
        return json.dumps(value)
    return value if isinstance(value, str) else ";".join(value)


def as_loose_lines(path: Path, rows: list[Record]) -> Path:
    """Without the id in the first row, so that the file begins as another tool's would."""
    return lines(
        path.with_suffix(".jsonl"), [json.loads(row.to_json()) | {"Scanner": "A"} for row in rows]
    )


def as_parquet(path: Path, rows: list[Record]) -> Path:
    table = {name: [getattr(row, name) for row in rows] for name in vars(rows[0])}
    table["image"] = [layouts.picture_bytes(1)] * len(rows)
    for name, encode in (
        ("queue", list),
        ("boxes", lambda v: list(map(list, v))),
        ("tags", json.dumps),
    ):
        table[name] = [encode(value) for value in table[name]]
    return parquet(path.with_suffix(".parquet"), table)


@pytest.mark.parametrize(
    ("write", "examples"), [(as_csv, 60), (as_loose_lines, 60), (as_parquet, 6)]
)
def test_a_record_written_and_read_is_the_same_or_told(
    write: Callable[[Path, list[Record]], Path],
    examples: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @given(rows=st.lists(ROWS, min_size=1, max_size=3, unique_by=lambda row: row.id))
    @settings(max_examples=examples, deadline=None)
    def check(rows: list[Record]) -> None:
        folder = tmp_path_factory.mktemp("set")
        found, bad, notes = read(write(folder / "a", rows))
        assert not bad
        for row, again in zip(rows, found, strict=True):
            for name, value in vars(row).items():
                same = getattr(again, name)
                if name in ("answer", "caption") and write is as_csv and same != value:
                    told = any("taken for empty: " in note for note in notes)
                    assert same == "2" if value == "2.0" else (same == "" and told)
                elif name == "tags":
                    assert {k: v for k, v in same.items() if k != "Scanner"} == value
                elif name != "image" or write is not as_parquet:
                    assert same == value, name

    check()
