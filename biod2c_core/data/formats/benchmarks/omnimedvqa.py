"""OmniMedVQA: ``QA_information/{Open-access,Restricted-access}/*.json`` and ``Images/``.

Layout by the data card foreverbeliever/OmniMedVQA and its readers in MedEvalKit and VLMEvalKit. The
paper counts 127,995 questions, 88,996 of them with open access, whose images are published; users of
later releases report 89,195. One file (Chest CT Scan) has ``modality`` for ``modality_type``.
"""

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
)
from biod2c_core.data.formats.fields.choices import choice_fields, choice_meant, without_letters
from biod2c_core.data.formats.fields.notes import NO_CHOICE, NO_IMAGES, Notes
from biod2c_core.data.formats.fields.values import optional, required, tags
from biod2c_core.data.formats.rows.json_array import iter_json_array

INFORMATION = "QA_information"
OPEN, RESTRICTED = "Open-access", "Restricted-access"
OPTIONS = {f"option_{letter}": letter for letter in "ABCDEFGH"}
TAGS = {"dataset": "dataset", "question_type": "question_type", "modality_type": "modality"}
TAKEN = ("question_id", "question", "gt_answer", "image_path", "modality", *OPTIONS, *TAGS)


def _root(path: Path) -> Path:
    """The folder with ``QA_information`` and ``Images``: itself, one inside, or one around a file."""
    folder = folder_of(path)
    inside = folder / "OmniMedVQA"
    if path.is_dir() and not (folder / INFORMATION).is_dir() and (inside / INFORMATION).is_dir():
        return inside
    around = (each.parent for each in folder.absolute().parents if each.name == INFORMATION)
    return next(around, folder.parent if folder.name == INFORMATION else folder)


def _files(path: Path, access: str = OPEN) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".json" else []
    return sorted((_root(path) / INFORMATION / access).glob("*.json"))


def _detect(path: Path) -> bool:
    files = _files(path)
    wanted = {"gt_answer", "image_path", "option_A"}
    return bool(files) and wanted <= first_names(iter_json_array(files[0]))


def _converter(file: Path, notes: Notes) -> Converter:
    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        choices = {letter: optional(row, name) for name, letter in OPTIONS.items() if name in row}
        answer = optional(row, "gt_answer")
        label = choice_meant(without_letters(choices), answer)
        if answer and not label:
            notes.add(NO_CHOICE, file.name)
        fields = choice_fields(choices, label, answer)
        return {
            **fields,
            # numbers of questions are unique in their file alone
            "id": f"omnimedvqa-{file.stem}-{required(row, 'question_id')}",
            "image": required(row, "image_path"),
            "question": required(row, "question"),
            "source": "omnimedvqa",
            "split": "test",
            "tags": {**tags(row, {"modality": "modality"}), **tags(row, TAGS), **fields["tags"]},
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        convert = _converter(file, options.notes)
        yield from convert_rows(file, iter_json_array(file), convert, TAKEN, options.notes)
    if path.is_dir():
        for file in _files(path, RESTRICTED):
            for _ in iter_json_array(file):
                options.notes.add(NO_IMAGES, RESTRICTED)


FORMAT = Format(
    name="omnimedvqa",
    layout=f"{INFORMATION}/{OPEN}/*.json and Images/",
    detect=_detect,
    read=_read,
    image_root=_root,
)
