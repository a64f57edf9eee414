"""VQA-RAD: the OSF release (one JSON file) and the common re-split (``trainset``, ``testset``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Converter,
    Format,
    ReadOptions,
    Row,
    convert_rows,
    folder_of,
)
from biod2c_core.data.formats.fields.values import answer_type, optional, required, tags
from biod2c_core.data.formats.rows.json_array import iter_json_array

OSF_FILE = "VQA_RAD Dataset Public.json"
OSF_IMAGES = "VQA_RAD Image Folder"
SPLITS = {"trainset.json": "train", "testset.json": "test"}
TAGS = {"image_organ": "organ", "question_type": "question_type", "phrase_type": "phrase_type"}
TAKEN = ("qid", "image_name", "question", "answer", "answer_type", *TAGS)


def _files(path: Path) -> list[Path]:
    names = [*SPLITS, OSF_FILE]
    candidates = [path / name for name in names] if path.is_dir() else [path]
    return [file for file in candidates if file.name in names and file.is_file()]


def _converter(file_split: str) -> Converter:
    """For a file of one split, or, without one, for the OSF file, whose rows tell their split."""

    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        is_test = optional(row, "phrase_type").startswith("test")
        split = file_split or ("test" if is_test else "train")
        release = "" if file_split else "osf-"  # the releases number their questions differently
        return {
            "id": f"vqa-rad-{release}{split}-{required(row, 'qid')}",
            "image": f"{'images' if file_split else OSF_IMAGES}/{required(row, 'image_name')}",
            "question": required(row, "question"),
            "answer": optional(row, "answer"),
            "answer_type": answer_type(row),
            "source": "vqa-rad",
            "split": split,
            "tags": tags(row, TAGS),
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        convert = _converter(SPLITS.get(file.name, ""))
        yield from convert_rows(file, iter_json_array(file), convert, TAKEN, options.notes)


FORMAT = Format(
    name="vqa-rad",
    layout=f"trainset.json, testset.json and images/; or '{OSF_FILE}' and '{OSF_IMAGES}/'",
    detect=lambda path: bool(_files(path)),
    read=_read,
    image_root=folder_of,
)
