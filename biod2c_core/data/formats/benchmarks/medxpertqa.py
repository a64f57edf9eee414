"""MedXpertQA-MM: ``MM/test.jsonl``, ``MM/dev.jsonl`` and ``images/``.

Layout by the data card TsinghuaC3I/MedXpertQA: 2,000 test questions with five choices, A to E, about 1
to 6 images each (2,852 in all), and 5 to show a model first, which become the split ``train``. The
question ends with its choices ("Answer Choices: (A) ..."), which are read from ``options`` instead. The
subset Text has no images and is not read.
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
    first_names,
    folder_of,
    jsonl_rows,
)
from biod2c_core.data.formats.fields.choices import choice_fields
from biod2c_core.data.formats.fields.notes import FIRST_IMAGE, Notes
from biod2c_core.data.formats.fields.values import optional, required, tags

SPLITS = {"dev": "train", "test": "test"}
TAGS = {
    "medical_task": "medical_task",
    "body_system": "body_system",
    "question_type": "question_type",
}
TAKEN = ("id", "question", "options", "label", "images", *TAGS)
_CHOICES = re.compile(r"Answer Choices:\s*\(A\).*", re.DOTALL)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".jsonl" else []
    folder = path / "MM" if (path / "MM").is_dir() else path
    return [file for split in SPLITS if (file := folder / f"{split}.jsonl").is_file()]


def _detect(path: Path) -> bool:
    files = _files(path)
    wanted = {"options", "label", "images", "medical_task"}
    return bool(files) and wanted <= first_names(jsonl_rows(files[0]))


def _root(path: Path) -> Path:
    """The folder with ``images``: itself, or the one around ``MM``."""
    folder = folder_of(path)
    return folder.absolute().parent if folder.absolute().name == "MM" else folder


def _first_image(row: dict[str, Any]) -> tuple[str, int]:
    """Name of the first image, and how many there are."""
    images = row.get("images")
    if not isinstance(images, list) or not images or not all(isinstance(i, str) for i in images):
        raise ValueError("field 'images' must be a list of names")
    return images[0], len(images)


def _converter(split: str, notes: Notes) -> Converter:
    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        options = row.get("options")
        if not isinstance(options, dict):
            raise ValueError("field 'options' must be an object of letters and texts")
        image, count = _first_image(row)
        if count > 1:
            notes.add(FIRST_IMAGE, f"{count} images")
        fields = choice_fields(
            {letter: optional(options, letter) for letter in options},
            optional(row, "label").upper(),
        )
        return {
            **fields,
            "id": f"medxpertqa-{required(row, 'id')}",
            "image": f"images/{image}",
            "question": _CHOICES.sub("", required(row, "question")).rstrip(),
            "source": "medxpertqa-mm",
            "split": split,
            "tags": {**fields["tags"], **tags(row, TAGS), "images": str(count)},
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        convert = _converter(SPLITS.get(file.stem, ""), options.notes)
        yield from convert_rows(file, jsonl_rows(file), convert, TAKEN, options.notes)


FORMAT = Format(
    name="medxpertqa",
    layout="MM/test.jsonl, MM/dev.jsonl and images/",
    detect=_detect,
    read=_read,
    image_root=_root,
)
