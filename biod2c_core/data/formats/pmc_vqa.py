"""PMC-VQA: ``train.csv`` and ``test.csv`` (version 2: ``train_2.csv``, ``test_2.csv``) and images.

The releases differ in their headers: the answer is ``Answer`` or ``Anwser``, a text beside an
``Answer_label``, or the letter itself; ``Caption`` may be there.
"""

from __future__ import annotations

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
    first_row,
    folder_of,
    image_prefix,
    in_folder,
    optional,
    required,
    split_of,
    yes_no_type,
)
from biod2c_core.data.formats.rows.csv_rows import iter_csv

VERSIONS = (("train.csv", "test.csv"), ("train_2.csv", "test_2.csv"), ("train2.csv", "test2.csv"))
IMAGE_FOLDERS = ("images", "images_2", "images2", "figures")
LETTERS = "ABCD"
_LETTER_PREFIX = re.compile(r"^([A-D])\s*[:.)]\s*")


def _files(path: Path) -> list[Path]:
    """A file as given; in a folder the first version that is there, so no question comes twice."""
    if path.is_file():
        return [path] if path.suffix == ".csv" else []
    versions = ([path / name for name in names if (path / name).is_file()] for names in VERSIONS)
    return next((files for files in versions if files), [])


def _detect(path: Path) -> bool:
    files = _files(path)
    return bool(files) and {"Figure_path", "Choice A"} <= set(first_row(iter_csv(files[0])))


def _choices(row: dict[str, Any]) -> dict[str, str]:
    """The choices by letter, without the letter that the files put before the text."""
    texts = {letter: optional(row, f"Choice {letter}") for letter in LETTERS}
    return {letter: _LETTER_PREFIX.sub("", text) for letter, text in texts.items() if text}


def _answer(row: dict[str, Any], choices: dict[str, str]) -> tuple[str, str]:
    """Text and letter of the right choice."""
    given = optional(row, "Answer") or optional(row, "Anwser")
    label = optional(row, "Answer_label") or (given if given in choices else "")
    if label and label not in choices:
        raise ValueError(f"the answer is {label!r}, but there are only the choices {[*choices]}")
    is_text = given not in ("", label)
    text = _LETTER_PREFIX.sub("", given) if is_text else choices.get(label, "")
    if not text:
        raise ValueError("field 'Answer' is missing or empty")
    return text, label


def _converter(file: Path, prefix: str) -> Converter:
    def convert(line: int, row: dict[str, Any]) -> dict[str, Any]:
        choices = _choices(row)
        answer, label = _answer(row, choices)
        tags = {f"choice_{letter.lower()}": text for letter, text in choices.items()}
        return {
            "id": f"pmc-vqa-{file.stem}-{line}",
            "image": in_folder(prefix, required(row, "Figure_path")),
            "question": required(row, "Question"),
            "answer": answer,
            "answer_type": yes_no_type(answer),
            "caption": optional(row, "Caption"),
            "source": "pmc-vqa",
            "split": split_of(file),
            "tags": {**tags, "answer_label": label} if label else tags,
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    prefix = image_prefix(folder_of(path), *IMAGE_FOLDERS)
    for file in _files(path):
        yield from convert_rows(file, iter_csv(file), _converter(file, prefix))


FORMAT = Format(
    name="pmc-vqa",
    layout="train.csv and test.csv, or train_2.csv and test_2.csv, and images/",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
