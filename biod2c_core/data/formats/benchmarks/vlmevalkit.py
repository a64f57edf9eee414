"""The tables of VLMEvalKit, GMAI-MMBench above all: TSV with the image as base64 text.

Layout by vlmeval/dataset/image_base.py of open-compass/VLMEvalKit and the files of
OpenGVLab/GMAI-MMBench: ``index``, ``image`` (base64, or the index of an earlier row with the same image),
``question``, ``answer``, for multiple choice ``A``, ``B`` ...; other columns become tags. GMAI-MMBench has
4,550 questions in ``GMAI-MMBench_VAL.tsv`` (earlier ``GMAI_mm_bench_VAL.tsv``) and 21,281 without answers
in ``GMAI_mm_bench_TEST_part_*.tsv``.
"""

from __future__ import annotations

import base64
import binascii
import re
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
from biod2c_core.data.formats.fields.choices import LETTERS, choice_fields, choice_meant
from biod2c_core.data.formats.fields.columns import plain_column
from biod2c_core.data.formats.fields.notes import ID_TWICE
from biod2c_core.data.formats.fields.values import (
    is_empty,
    optional,
    required,
    yes_no_type,
)
from biod2c_core.data.formats.rows.csv_rows import iter_csv
from biod2c_core.data.formats.rows.pictures import store_picture
from biod2c_core.data.records import SPLIT_WORDS
from biod2c_core.errors import InputError

LONGEST_IMAGE = 64 << 20
REFERENCE = 64  # a shorter text is the index of another row
TAKEN = ("index", "id", "image", "question", "answer", "split", *LETTERS)
TAG = "tag_"  # stands before our own tags, so that none is taken for a column of the tool
_OWN = ("answer_type", "caption", "source")  # fields of a record, as our own export writes them
_GAP = "nan"
_WORDS = re.compile(r"[^a-z0-9]+")


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.tsv")) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() == ".tsv" and file.is_file()]


def _detect(path: Path) -> bool:
    files = _files(path)
    if not files:
        return False
    names = first_names(iter_csv(files[0], longest_field=LONGEST_IMAGE), 1)
    return {"index", "image", "question"} <= names


def source_of(file: Path) -> str:
    """The data set that a file name speaks of: ``gmai-mmbench`` for GMAI_mm_bench_TEST_part_3.tsv."""
    name = file.stem.lower()
    if name.startswith("gmai"):
        return "gmai-mmbench"
    words = [word for word in _WORDS.split(name) if word and word not in SPLIT_WORDS]
    return "-".join(words) or name


class _Pictures:
    """Writes images, and remembers by index which name each got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, str] = {}

    def store(self, index: str, text: str) -> str:
        if 0 < len(text) <= REFERENCE and text in self.names:
            self.names[index] = self.names[text]
            return self.names[text]
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(
                "field 'image' is neither base64 nor the index of an earlier row"
            ) from None
        self.names[index] = store_picture(data, self.folder)
        return self.names[index]


def _cell(row: dict[str, Any], name: str) -> str:
    text = optional(row, name)
    return "" if text.lower() == _GAP else text


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of the record that hold choices and answer."""
    choices = {letter: text for letter in LETTERS if (text := _cell(row, letter))}
    answer = _cell(row, "answer")
    if len(choices) < 2:
        return {"answer": answer, "answer_type": yes_no_type(answer), "tags": {}}
    label = answer.upper() if answer.upper() in choices else choice_meant(choices, answer)
    return choice_fields(choices, label, answer)


def _converter(file: Path, options: ReadOptions, elsewhere: set[str]) -> Converter:
    """For one file; ``elsewhere`` are the ids of the files before it, and grows."""
    pictures = _Pictures(options.image_dir or Path())
    split, source = split_of(file), options.source or source_of(file)
    earlier = frozenset(elsewhere)

    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        index, fields = required(row, "index"), _answer(row)
        name = _cell(row, "id") or f"{source}-{split + '-' if split else ''}{index}"
        if name in earlier:
            options.notes.add(ID_TWICE, file.name)
            name = f"{file.stem}-{index}"
        elsewhere.add(name)
        others = {
            plain_column(key).removeprefix(TAG): text
            for key, value in row.items()
            if key not in TAKEN and not is_empty(value) and (text := _cell(row, key))
        }
        own = {key: others.pop(key) for key in _OWN if key in others}
        return {
            **fields,
            "id": name,
            "image": pictures.store(index, required(row, "image")),
            "question": required(row, "question"),
            "source": source,
            "split": _cell(row, "split").lower() if _is_split(row) else split,
            "tags": {**fields["tags"], **others},
            **own,
        }

    return convert


def _is_split(row: dict[str, Any]) -> bool:
    return optional(row, "split").lower() in SPLIT_WORDS


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    if options.image_dir is None:
        raise InputError(
            f"{path} holds its images inside the tables",
            "Import it first: biod2c data import vlmevalkit SOURCE -o OUT.jsonl",
        )
    ids: set[str] = set()
    for file in _files(path):
        convert = _converter(file, options, ids)
        rows = iter_csv(file, options.notes, LONGEST_IMAGE)
        yield from convert_rows(file, rows, convert, None, options.notes)


FORMAT = Format(
    name="vlmevalkit",
    layout="*.tsv of index, image (base64), question, answer, A, B ... (GMAI-MMBench)",
    detect=_detect,
    read=_read,
    image_root=folder_of,
    holds_images=True,
)
