"""Tiny data sets in every published layout, as the fixtures of the data tests."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from biod2c_core.data.formats import ReadOptions, Rejection, stream_records
from biod2c_core.data.records import Record

SLAKE_ROW = {
    "img_id": 1,
    "img_name": "xmlab1/source.jpg",
    "question": "Is this a CT?",
    "answer": "Yes",
    "q_lang": "en",
    "location": "Lung",
    "modality": "CT",
    "answer_type": "CLOSED",
    "base_type": "vqa",
    "content_type": "Modality",
    "triple": ["vhead", "_", "_"],
    "qid": 7,
}
RAD_ROW = {
    "qid": 3,
    "image_name": "synpic1.jpg",
    "image_organ": "CHEST",
    "question": "How many?",
    "answer": 2,
    "answer_type": "OPEN ",
    "question_type": "COUNT",
    "phrase_type": "freeform",
}
PATH_ROW = {"image": "train_0001", "question": "Is it fat?", "answer": "yes"}
CONVERSATION = [
    {"from": "human", "value": "Describe.\n<image>"},
    {"from": "gpt", "value": "A chest film."},
]


def picture(path: Path, shade: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 10, 20)).save(path)


def picture_bytes(shade: int = 90) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 10, 20)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: list[Any]) -> None:
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def slake(folder: Path) -> Path:
    write(
        folder / "train.json", [SLAKE_ROW, {**SLAKE_ROW, "qid": 8, "q_lang": "zh", "answer": "是"}]
    )
    write(folder / "validation.json", [{**SLAKE_ROW, "qid": 9}])
    picture(folder / "imgs/xmlab1/source.jpg")
    return folder


def vqa_rad_osf(folder: Path) -> Path:
    test_row = {
        **RAD_ROW,
        "qid": 4,
        "phrase_type": "test_para",
        "answer_type": "CLOSED ",
        "answer": "No",
    }
    write(folder / "VQA_RAD Dataset Public.json", [RAD_ROW, test_row])
    picture(folder / "VQA_RAD Image Folder/synpic1.jpg")
    return folder


def vqa_rad_split(folder: Path) -> Path:
    write(folder / "trainset.json", [RAD_ROW])
    write(folder / "testset.json", [RAD_ROW])
    picture(folder / "images/synpic1.jpg")
    return folder


def path_vqa(folder: Path) -> Path:
    for split, protocol in (("train", 2), ("val", 3), ("test", 4)):
        file = folder / f"pvqa/qas/{split}/{split}_qa.pkl"
        file.parent.mkdir(parents=True)
        rows = [
            {**PATH_ROW, "image": f"{split}_0001"},
            {**PATH_ROW, "image": f"{split}_0001", "answer": "fat"},
        ]
        file.write_bytes(pickle.dumps(rows, protocol=protocol))
        picture(folder / f"pvqa/images/{split}/{split}_0001.jpg")
    return folder


CHOICES = ["Choice A", "Choice B", "Choice C", "Choice D"]
TEXTS = [" A:Diffuse ", " B:Focal, left", "C:None", "D:Unknown"]


def pmc_vqa(folder: Path) -> Path:
    header = ["Figure_path", "Question", "Answer", *CHOICES, "Answer_label"]
    write_csv(folder / "train.csv", header, [["PMC1_F1.jpg", "What?", " Focal, left", *TEXTS, "B"]])
    picture(folder / "images/PMC1_F1.jpg")
    return folder


def pmc_vqa_old(folder: Path) -> Path:
    header = ["Figure_path", "Caption", "Question", *CHOICES, "Anwser"]
    write_csv(folder / "test_2.csv", header, [["PMC1_F1.jpg", "A figure.", "What?", *TEXTS, "B"]])
    picture(folder / "images_2/PMC1_F1.jpg")
    return folder


def llava_med(folder: Path) -> Path:
    write(folder / "align.json", [{"id": "a1", "image": "x.jpg", "conversatons": CONVERSATION}])
    picture(folder / "images/x.jpg")
    return folder / "align.json"


def llava_med_turns(folder: Path) -> Path:
    turns = [*CONVERSATION, {"from": "human", "value": "Normal?"}, {"from": "gpt", "value": "No"}]
    write(folder / "instruct.json", [{"id": "a1", "image": "x.jpg", "conversations": turns}])
    picture(folder / "x.jpg")
    return folder / "instruct.json"


def biovgq(folder: Path) -> Path:
    row = {"image": "x.jpg", "question": "What?", "answer": "A lung."}
    rows = [{**row, "queue": "lung, left lobe"}, {**row, "queue": ["lung, left", "lobe"]}]
    write_lines(folder / "train.jsonl", rows)
    picture(folder / "x.jpg")
    return folder


def pmc_oa(folder: Path) -> Path:
    write_lines(folder / "train.jsonl", [{"image": "x.jpg", "caption": "A lung.", "pmcid": "PMC1"}])
    picture(folder / "images/x.jpg")
    return folder


def plain_csv(folder: Path) -> Path:
    header = ["Image", "question", "answer", "queue", "split", "Patient"]
    rows = [["x.png", "Is it, well?", "no", "a; b", "test", "p1"]]
    write_csv(folder / "mine.csv", header, rows)
    picture(folder / "x.png")
    return folder / "mine.csv"


def image_folder_text(folder: Path) -> Path:
    for name in ("b", "a/c"):
        picture(folder / f"{name}.png")
        write(folder / f"{name}.txt", f"Caption of {name}.\n")
    return folder


def image_folder_table(folder: Path) -> Path:
    picture(folder / "b.png")
    write_lines(folder / "metadata.jsonl", [{"file_name": "b.png", "text": "A cell."}])
    return folder


def canonical(folder: Path) -> Path:
    write_lines(
        folder / "all.jsonl", [{"id": "1", "image": "x.png", "question": "q", "tags": {"a": "b"}}]
    )
    picture(folder / "x.png")
    return folder / "all.jsonl"


def hub_parquet(folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    (folder / "data").mkdir(parents=True)
    for split, shades in (("train", [1, 1, 2]), ("test", [3])):
        images = [{"bytes": picture_bytes(shade), "path": None} for shade in shades]
        answers = ["yes", "fat", "2", "no"][: len(shades)]
        table = {"image": images, "question": ["q?"] * len(shades), "answer": answers}
        name = f"{split}-00000-of-00001-0a1b.parquet"
        pyarrow.parquet.write_table(pyarrow.table(table), folder / "data" / name)
    return folder


PLAIN_ROW = {"image": "x.png", "question": "What?", "answer": "lung"}


def text_lines(path: Path, rows: Sequence[Any]) -> Path:
    """JSONL of rows, or of lines as they are."""
    write(path, "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def parquet(path: Path, table: dict[str, Any]) -> Path:
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


def read_all(path: Path, images: Path | None = None) -> tuple[list[Record], list[str], list[str]]:
    """Records, reasons of bad rows, notes."""
    options = ReadOptions(image_dir=images or path.parent)
    items = list(stream_records(path, options=options))
    bad = [item.reason for item in items if isinstance(item, Rejection)]
    return [item for item in items if isinstance(item, Record)], bad, options.notes.lines()


# builder -> format, number of records (English for SLAKE)
LAYOUTS: dict[Callable[[Path], Path], tuple[str, int]] = {
    slake: ("slake", 2),
    vqa_rad_osf: ("vqa-rad", 2),
    vqa_rad_split: ("vqa-rad", 2),
    path_vqa: ("path-vqa", 6),
    pmc_vqa: ("pmc-vqa", 1),
    pmc_vqa_old: ("pmc-vqa", 1),
    llava_med: ("llava-med", 1),
    llava_med_turns: ("llava-med", 2),
    biovgq: ("biovgq", 2),
    pmc_oa: ("pmc-oa", 1),
    plain_csv: ("csv", 1),
    image_folder_text: ("image-folder", 2),
    image_folder_table: ("image-folder", 1),
    canonical: ("jsonl", 1),
    hub_parquet: ("hub-parquet", 4),
}
