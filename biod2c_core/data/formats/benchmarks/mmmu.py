"""MMMU, Health & Medicine: parquet files of five subjects, each with its images inside.

Layout by the data card MMMU/MMMU: a folder a subject, or all subjects in one file; ``options`` is a list
written as Python does, ``image_1`` to ``image_7`` are images, ``answer`` is a letter, a text for the open
questions, or ``?`` in the test split. Of the five subjects 150 questions validate and 1,752 test; 25 to
show a model first (``dev``) become the split ``train``.
"""

from __future__ import annotations

import ast
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
from biod2c_core.data.formats.fields.choices import choice_fields
from biod2c_core.data.formats.fields.notes import FIRST_IMAGE, SUBJECT, Notes
from biod2c_core.data.formats.fields.values import is_empty, optional, required, tags
from biod2c_core.data.formats.rows.parquet_rows import iter_parquet, parquet_columns
from biod2c_core.data.formats.rows.pictures import store_picture
from biod2c_core.errors import InputError

SUBJECTS = (
    "Basic_Medical_Science",
    "Clinical_Medicine",
    "Diagnostics_and_Laboratory_Medicine",
    "Pharmacy",
    "Public_Health",
)
SPLITS = {"dev": "train", "validation": "validation", "test": "test"}
IMAGES = tuple(f"image_{number}" for number in range(1, 8))
TAGS = {
    "subfield": "subfield",
    "topic_difficulty": "difficulty",
    "question_type": "question_type",
    "img_type": "image_type",
}
TAKEN = ("id", "question", "options", "answer", *IMAGES, *TAGS)
_MOST_OPTIONS = 1 << 16
_UNKNOWN = "?"  # how the test split spells an answer that is kept back


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    subjects = [file for name in SUBJECTS for file in sorted((path / name).glob("*.parquet"))]
    return subjects or sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def _detect(path: Path) -> bool:
    files = _files(path)
    wanted = {"id", "question", "options", "answer", "image_1", "question_type"}
    return bool(files) and wanted <= parquet_columns(files[0])


def _options(text: str) -> list[str]:
    """The choices out of a list as Python writes it; nothing is run.

    Raises:
        ValueError: It is not such a list, or too long.
    """
    if len(text) > _MOST_OPTIONS:
        raise ValueError(f"field 'options' is longer than {_MOST_OPTIONS} characters")
    try:
        found = ast.literal_eval(text or "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"field 'options' must be a list of texts, got {text[:60]!r}")
    return found


def _subject(name: str) -> tuple[str, str]:
    """Split and subject out of an id such as ``validation_Pharmacy_12``."""
    split, _, rest = name.partition("_")
    subject, _, number = rest.rpartition("_")
    if split not in SPLITS or not subject or not number.isdecimal():
        raise ValueError(f"field 'id' is {name!r}; expected one such as validation_Pharmacy_12")
    return SPLITS[split], subject


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of the record that hold choices and answer."""
    answer = optional(row, "answer")
    answer = "" if answer == _UNKNOWN else answer
    options = _options(optional(row, "options"))
    if optional(row, "question_type") == "open" or not options:
        return {"answer": answer, "answer_type": "OPEN" if answer else "", "tags": {}}
    choices = {chr(ord("A") + place): text for place, text in enumerate(options)}
    return choice_fields(choices, answer.upper())


def _converter(folder: Path, notes: Notes) -> Converter:
    def convert(_: int, row: dict[str, Any]) -> dict[str, Any] | None:
        name = required(row, "id")
        split, subject = _subject(name)
        if subject not in SUBJECTS:
            notes.add(SUBJECT, subject)
            return None
        images = [each for each in IMAGES if not is_empty(row.get(each))]
        if len(images) > 1:
            notes.add(FIRST_IMAGE, f"{len(images)} images")
        fields = _answer(row)
        return {
            **fields,
            "id": f"mmmu-{name}",
            "image": store_picture(row.get("image_1"), folder, "image_1"),
            "question": required(row, "question"),
            "source": "mmmu",
            "split": split,
            "tags": {
                **fields["tags"],
                "subject": subject,
                **tags(row, TAGS),
                "images": str(len(images)),
            },
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    if options.image_dir is None:
        raise InputError(
            f"{path} holds its images inside the parquet files",
            "Import it first: biod2c data import mmmu SOURCE -o OUT.jsonl",
        )
    for file in _files(path):
        convert = _converter(options.image_dir, options.notes)
        yield from convert_rows(file, iter_parquet(file), convert, TAKEN, options.notes)


FORMAT = Format(
    name="mmmu",
    layout="a folder of *.parquet for each of the five subjects of Health & Medicine, or one file",
    detect=_detect,
    read=_read,
    image_root=folder_of,
    holds_images=True,
)
