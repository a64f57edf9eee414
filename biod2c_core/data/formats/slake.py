"""SLAKE: ``train.json``, ``validate.json`` (hub: ``validation.json``), ``test.json`` and ``imgs/``."""

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
    first_names,
    folder_of,
    split_of,
)
from biod2c_core.data.formats.fields.notes import LANGUAGE, Notes
from biod2c_core.data.formats.fields.values import answer_type, optional, required, tags
from biod2c_core.data.formats.rows.json_array import iter_json_array
from biod2c_core.errors import InputError

FILES = ("train.json", "validate.json", "validation.json", "test.json")
LANGUAGES = ("en", "zh", "all")
TAGS = {
    "location": "organ",
    "modality": "modality",
    "content_type": "question_type",
    "base_type": "base_type",
    "q_lang": "language",
}
TAKEN = ("qid", "img_name", "question", "answer", "answer_type", *TAGS)


def _files(path: Path) -> list[Path]:
    candidates = [path / name for name in FILES] if path.is_dir() else [path]
    return [file for file in candidates if file.suffix == ".json" and file.is_file()]


def _detect(path: Path) -> bool:
    files = _files(path)
    return bool(files) and {"img_name", "q_lang"} <= first_names(iter_json_array(files[0]))


def _converter(split: str, language: str, notes: Notes) -> Converter:
    def convert(_: int, row: dict[str, Any]) -> dict[str, Any] | None:
        if language not in ("all", spoken := optional(row, "q_lang")):
            notes.add(LANGUAGE, spoken or "(none)")
            return None
        return {
            "id": f"slake-{split or 'all'}-{required(row, 'qid')}",
            "image": f"imgs/{required(row, 'img_name')}",
            "question": required(row, "question"),
            "answer": optional(row, "answer"),
            "answer_type": answer_type(row),
            "source": "slake",
            "split": split,
            "tags": tags(row, TAGS),
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    if options.language not in LANGUAGES:
        raise InputError(
            f"unknown language {options.language!r}", f"SLAKE has: {', '.join(LANGUAGES)}."
        )
    for file in _files(path):
        convert = _converter(split_of(file), options.language, options.notes)
        yield from convert_rows(file, iter_json_array(file), convert, TAKEN, options.notes)


FORMAT = Format(
    name="slake",
    layout="train.json, validate.json (or validation.json), test.json and imgs/",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
