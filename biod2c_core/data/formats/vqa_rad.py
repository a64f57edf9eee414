"""VQA-RAD, the common re-split: ``trainset.json``, ``testset.json`` and ``images/``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Format,
    ReadOptions,
    Row,
    answer_type,
    convert_rows,
    folder_of,
    optional,
    required,
    tags,
)
from biod2c_core.data.formats.json_array import iter_json_array

SPLITS = {"trainset.json": "train", "testset.json": "test"}
TAGS = {"image_organ": "organ", "question_type": "question_type", "phrase_type": "phrase_type"}


def _files(path: Path) -> list[Path]:
    candidates = [path / name for name in SPLITS] if path.is_dir() else [path]
    return [file for file in candidates if file.name in SPLITS and file.is_file()]


def _converter(split: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def convert(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"vqa-rad-{split}-{required(row, 'qid')}",
            "image": f"images/{required(row, 'image_name')}",
            "question": required(row, "question"),
            "answer": optional(row, "answer"),
            "answer_type": answer_type(row),
            "source": "vqa-rad",
            "split": split,
            "tags": tags(row, TAGS),
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:  # noqa: ARG001
    for file in _files(path):
        yield from convert_rows(file, iter_json_array(file), _converter(SPLITS[file.name]))


FORMAT = Format(
    name="vqa-rad",
    layout="trainset.json, testset.json and images/ (the common re-split)",
    detect=lambda path: bool(_files(path)),
    read=_read,
    image_root=folder_of,
)
