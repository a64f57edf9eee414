"""Tables for VLMEvalKit: what it reads in them, and that ours reads them back."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biod2c_core.data.formats import read_records
from biod2c_core.data.importing import import_records
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError, InputError
from biod2c_core.evaluation.vlmevalkit import write_table

TAGS = {"choice_a": "lung", "choice_b": "liver, left", "answer_label": "B", "organ": "CHEST"}


def picture(path: Path, kind: str = "RGB") -> bytes:
    image = Image.new("RGB", (12, 8), (10, 200, 30))
    if kind == "deep":
        grey = np.linspace(0, 60_000, 96, dtype=np.uint16).reshape(8, 12)
        image = Image.fromarray(grey)
    elif kind == "RGBA":
        image = Image.new("RGBA", (12, 8), (10, 200, 30, 0))
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    image.save(path, exif=exif) if kind == "turned" else image.save(path)
    return path.read_bytes()


def rows(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def free(number: int, image: str, **fields: str) -> Record:
    given = {
        "answer": "no",
        "answer_type": "CLOSED",
        "source": "vqa-rad",
        "split": "test",
        **fields,
    }
    return Record(
        f"q-{number}", image, f"Is it {number}?\tOr\nnot?", tags={"organ": "HEAD"}, **given
    )


def test_free_answers_with_an_image_that_is_repeated(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png")
    picture(tmp_path / "b.jpg")
    found = [free(0, "a.png"), free(1, "b.jpg"), free(2, "a.png")]
    assert write_table(tmp_path / "VQA-RAD.tsv", found, tmp_path) == 2
    first, second, third = rows(tmp_path / "VQA-RAD.tsv")
    assert base64.b64decode(first["image"]) == data
    assert len(second["image"]) > 64  # VLMEvalKit takes a shorter text for the index of a row
    assert (third["index"], third["image"]) == ("2", "0")
    assert (first["id"], first["question"], first["answer"]) == ("q-0", found[0].question, "no")
    assert "A" not in first


def test_multiple_choice_has_letters_as_columns_and_answer(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    record = Record("1", "a.png", "Which?", "liver, left", tags=TAGS)
    write_table(tmp_path / "Mine.tsv", [record], tmp_path)
    (row,) = rows(tmp_path / "Mine.tsv")
    assert (row["A"], row["B"], row["answer"], row["tag_organ"]) == (
        "lung",
        "liver, left",
        "B",
        "CHEST",
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name, record in (
        ("free", free(0, "a.png")),
        (
            "choice",
            Record("1", "a.png", "Which?", "liver, left", tags=TAGS, source="x", split="test"),
        ),
    ):
        write_table(tmp_path / f"{name}.tsv", [record], tmp_path)
        import_records(tmp_path / f"{name}.tsv", tmp_path / f"{name}.jsonl")
        (again,) = read_records(tmp_path / f"{name}.jsonl")
        assert again.changed(image="a.png", answer_type=record.answer_type) == record


def test_pandas_takes_no_choice_for_an_empty_cell(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    picture(tmp_path / "a.png")
    tags = {"choice_a": "None", "choice_b": "NA", "choice_c": "null", "answer_label": "A"}
    record = Record("nan", "a.png", "n/a", "None", tags=tags)
    write_table(tmp_path / "X.tsv", [record], tmp_path)
    row = pandas.read_csv(tmp_path / "X.tsv", sep="\t").iloc[0]
    assert [row[name].strip() for name in ("id", "question", *"ABC")] == [
        *("nan", "n/a", "None", "NA", "null")
    ]


@pytest.mark.parametrize("kind", ["deep", "RGBA", "turned"])
def test_an_image_that_programs_show_differently_goes_as_it_is_shown_here(
    kind: str, tmp_path: Path
) -> None:
    data = picture(tmp_path / "a.png", kind)
    write_table(tmp_path / "X.tsv", [free(0, "a.png")], tmp_path)
    sent = base64.b64decode(rows(tmp_path / "X.tsv")[0]["image"])
    assert sent != data
    with Image.open(io.BytesIO(sent)) as image:
        assert image.mode == "RGB"
        assert image.size == ((8, 12) if kind == "turned" else (12, 8))
        if kind == "RGBA":
            assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("records", "name", "reason"),
    [
        ([], "X.tsv", "no question to write"),
        ([free(0, "a.png")], "X.csv", "called 'X.csv'"),
        ([free(0, "a.png", answer="")], "X.tsv", "'q-0' has no gold answer"),
        ([free(0, "a.png"), Record("1", "a.png", "?", "lung", tags=TAGS)], "X.tsv", "two classes"),
        (
            [Record("1", "a.png", "?", "bone", tags={"choice_a": "lung", "choice_b": "liver"})],
            "X.tsv",
            "no gold answer that is one of its choices",
        ),
    ],
)
def test_what_cannot_be_a_table_is_refused(
    records: list[Record], name: str, reason: str, tmp_path: Path
) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=reason):
        write_table(tmp_path / name, records, tmp_path)
    assert not (tmp_path / name).exists()


def test_a_damaged_image_leaves_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ImageError):
        write_table(tmp_path / "X.tsv", [free(0, "a.png")], tmp_path)
    assert not list(tmp_path.glob("*X.tsv*"))
