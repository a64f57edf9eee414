"""Two published JSONL layouts without ids: BioVGQ (questions) and PMC-OA (captions).

A row with more fields of a record than its layout has keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Converter,
    Format,
    ReadOptions,
    Row,
    convert_rows,
    first_names,
    folder_of,
    image_prefix,
    in_folder,
    jsonl_rows,
    split_of,
)
from biod2c_core.data.formats.fields.values import caption_fields, required, yes_no_type

SPLIT_FILES = ("train.jsonl", "val.jsonl", "valid.jsonl", "validation.jsonl", "test.jsonl")
PMC_OA_IMAGES = ("images", "caption_T060_filtered_top4_sep_v0_subfigures")


def _files(path: Path) -> list[Path]:
    candidates = [path / name for name in SPLIT_FILES] if path.is_dir() else [path]
    return [file for file in candidates if file.suffix == ".jsonl" and file.is_file()]


def _names(path: Path) -> set[str]:
    files = _files(path)
    return first_names(jsonl_rows(files[0])) if files else set()


def _detect_biovgq(path: Path) -> bool:
    return {"image", "question", "answer"} <= _names(path)


def _detect_pmc_oa(path: Path) -> bool:
    names = _names(path)
    return {"image", "caption"} <= names and "question" not in names


def _phrases(value: Any) -> list[str]:
    """BioVGQ's queue: phrases in one text with commas between them, or a list of texts."""
    parts = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError("field 'queue' must be a text or a list of texts")
    return [part.strip() for part in parts if part.strip()]


def _identity(source: str, file: Path, line: int) -> dict[str, Any]:
    split = split_of(file)
    return {"id": f"{source}-{split or file.stem}-{line}", "source": source, "split": split}


def _biovgq(file: Path, prefix: str) -> Converter:
    def convert(line: int, row: dict[str, Any]) -> dict[str, Any]:
        answer = required(row, "answer")
        return {
            **_identity("biovgq", file, line),
            "image": in_folder(prefix, required(row, "image")),
            "question": required(row, "question"),
            "answer": answer,
            "answer_type": yes_no_type(answer),
            "queue": _phrases(row.get("queue")),
        }

    return convert


def _pmc_oa(file: Path, prefix: str) -> Converter:
    def convert(line: int, row: dict[str, Any]) -> dict[str, Any]:
        return {
            **_identity("pmc-oa", file, line),
            "image": in_folder(prefix, required(row, "image")),
            **caption_fields("", required(row, "caption")),
        }

    return convert


def _reader(
    converter: Callable[[Path, str], Converter],
    image_folders: tuple[str, ...],
    taken: tuple[str, ...],
) -> Callable[[Path, ReadOptions], Iterator[Row]]:
    def read(path: Path, options: ReadOptions) -> Iterator[Row]:
        prefix = image_prefix(folder_of(path), *image_folders)
        for file in _files(path):
            convert = converter(file, prefix)
            yield from convert_rows(file, jsonl_rows(file), convert, taken, options.notes)

    return read


BIOVGQ = Format(
    name="biovgq",
    layout="JSONL of image, question, answer, queue; images beside it or in images/",
    detect=_detect_biovgq,
    read=_reader(_biovgq, ("images",), ("image", "question", "answer", "queue")),
    image_root=folder_of,
)
PMC_OA = Format(
    name="pmc-oa",
    layout="JSONL of image and caption; images beside it or in images/",
    detect=_detect_pmc_oa,
    read=_reader(_pmc_oa, PMC_OA_IMAGES, ("image", "caption")),
    image_root=folder_of,
)
