"""A file with splits never gives a row of another split to training or validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import layouts
import pytest
from layouts import PLAIN_ROW, parquet, text_lines

from biod2c_core.data.formats import (
    ReadOptions,
    read_records,
)
from biod2c_core.data.records import Record, write_records
from biod2c_core.errors import InputError
from biod2c_core.training.inputs.datasets import meant_for


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


# layout -> how its rows stand in a file; a field "split" is put into each
LEAKY: dict[str, Callable[[Path, list[str]], Path]] = {}


def leaky(write: Callable[[Path, list[str]], Path]) -> Callable[[Path, list[str]], Path]:
    LEAKY[write.__name__] = write
    return write


@leaky
def own(folder: Path, splits: list[str]) -> Path:
    rows = [{**PLAIN_ROW, "split": split, "scanner": "A"} for split in splits]
    return text_lines(folder / "a.jsonl", rows)


@leaky
def own_by_files(folder: Path, splits: list[str]) -> Path:
    for split in splits:
        name = {"train": "train", "val": "val", "test": "test"}[split]
        text_lines(folder / f"{name}.jsonl", [{"id": split, **PLAIN_ROW}])
    return folder


@leaky
def biovgq(folder: Path, splits: list[str]) -> Path:
    rows = [{**PLAIN_ROW, "queue": "a, b"}] * 25 + [
        {**PLAIN_ROW, "split": split} for split in splits
    ]
    return text_lines(folder / "a.jsonl", rows)


@leaky
def pmc_oa(folder: Path, splits: list[str]) -> Path:
    rows = [{"image": "x.png", "caption": "A lung.", "split": split} for split in splits]
    return text_lines(folder / "a.jsonl", rows)


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
        folder / "a.csv",
        [*PLAIN_ROW, "Subset"],
        [[*PLAIN_ROW.values(), split.upper()] for split in splits],
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
    text_lines(folder / "metadata.jsonl", rows)
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
        options = ReadOptions(image_dir=tmp_path / "images")
        chosen = list(meant_for(source, split, told.append, options))
        assert {record.split for record in chosen} <= allowed
        assert chosen
        assert f"{len(chosen)} of {len(records)} rows are for {split}" in told[-1]


def test_validation_without_a_row_for_it_is_refused(tmp_path: Path) -> None:
    records = [Record(str(n), "x", "q", split=split) for n, split in enumerate(["train", "test"])]
    write_records(tmp_path / "a.jsonl", records)
    with pytest.raises(InputError, match=r"has splits, but no validation row \(train 1, test 1\)"):
        list(meant_for(tmp_path / "a.jsonl", "validation", print))
