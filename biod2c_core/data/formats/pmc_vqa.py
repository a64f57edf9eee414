"""PMC-VQA: ``train.csv`` and ``test.csv`` (version 2: ``train_2.csv``, ``test_2.csv``) and images.

By the data card xmcmic/PMC-VQA (now RadGenome/PMC-VQA): ``test.csv`` has 50,000 questions,
``test_clean.csv`` 2,000, checked by people, ``test_2.csv`` 33,430. The releases differ in their headers:
the answer is ``Answer`` or ``Anwser``, a text beside an ``Answer_label``, or the letter itself;
``Caption`` may be there.
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
    image_prefix,
    in_folder,
    split_of,
)
from biod2c_core.data.formats.fields.choices import (
    LETTERS,
    choice_meant,
    plain_choice,
    without_letters,
)
from biod2c_core.data.formats.fields.notes import NO_CHOICE, Notes
from biod2c_core.data.formats.fields.values import optional, required, yes_no_type
from biod2c_core.data.formats.rows.csv_rows import is_csv, iter_csv

VERSIONS = (("train.csv", "test.csv"), ("train_2.csv", "test_2.csv"), ("train2.csv", "test2.csv"))
IMAGE_FOLDERS = ("images", "images_2", "images2", "figures")
IMAGE_FOLDERS_2 = ("images_2", "images2", "figures", "images")  # version 2 beside version 1
COLUMNS = {f"choice {letter.lower()}": letter for letter in LETTERS}
_PUBLISHED = ("Figure_path", "Question", "Answer", "Anwser", "Answer_label", "Caption")
TAKEN = (
    *(f"Choice {letter}" for letter in LETTERS),
    *_PUBLISHED,
    *COLUMNS,
    *(name.lower() for name in _PUBLISHED),
)


def _files(path: Path) -> list[Path]:
    """A file as given; in a folder the first version that is there, so no question comes twice."""
    if path.is_file():
        return [path] if is_csv(path) else []
    versions = ([path / name for name in names if (path / name).is_file()] for names in VERSIONS)
    return next((files for files in versions if files), [])


def _detect(path: Path) -> bool:
    files = _files(path)
    names = {name.lower() for name in first_names(iter_csv(files[0]))} if files else set()
    return {"figure_path", "choice a"} <= names


def _answer(row: dict[str, Any], choices: dict[str, str]) -> tuple[str, str]:
    """Text and letter of the right choice; no letter where the answer is none of the choices.

    An answer is compared as text before it is read as a letter, unless ``Answer_label`` says the same
    letter.

    Raises:
        ValueError: There is no answer, or it and the label name two different choices.
    """
    given = optional(row, "answer") or optional(row, "anwser")
    label = optional(row, "answer_label").upper()
    if label and label not in choices:
        raise ValueError(f"the answer is {label!r}, but there are only the choices {[*choices]}")
    if not given and not label:
        raise ValueError("field 'Answer' is missing or empty")
    if not label:
        letter = choice_meant(choices, given)
        if not letter and len(given) == 1 and given.upper() in LETTERS:
            raise ValueError(
                f"the answer is {given!r}, but there are only the choices {[*choices]}"
            )
        return (choices[letter], letter) if letter else (given, "")
    if given and given.upper() != label and given != choices[label]:
        named = choice_meant(choices, given)
        same_text = named and plain_choice(choices[named]) == plain_choice(choices[label])
        if named and named != label and not same_text:
            raise ValueError(f"the answer is {given!r}, but 'Answer_label' is {label!r}")
    return choices[label], label


def _converter(file: Path, prefix: str, notes: Notes) -> Converter:
    split = split_of(file)

    def convert(line: int, published: dict[str, Any]) -> dict[str, Any]:
        row = {name.lower(): value for name, value in published.items()}
        given = {letter: optional(row, name) for name, letter in COLUMNS.items() if name in row}
        choices = without_letters(given)
        answer, label = _answer(row, choices)
        if not label:
            notes.add(NO_CHOICE, file.name)
        tags = {f"choice_{letter.lower()}": text for letter, text in choices.items()}
        return {
            "id": f"pmc-vqa-{file.stem}-{line}",
            "image": in_folder(prefix, required(row, "figure_path")),
            "question": required(row, "question"),
            "answer": answer,
            "answer_type": yes_no_type(answer),
            "caption": optional(row, "caption"),
            "source": "pmc-vqa",
            "split": split,
            "tags": {**tags, "answer_label": label} if label else tags,
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        folders = IMAGE_FOLDERS_2 if file.stem.endswith("2") else IMAGE_FOLDERS
        prefix = image_prefix(folder_of(path), *folders)
        convert = _converter(file, prefix, options.notes)
        rows = iter_csv(file, options.notes)
        yield from convert_rows(file, rows, convert, TAKEN, options.notes)


FORMAT = Format(
    name="pmc-vqa",
    layout="train.csv and test.csv, or train_2.csv and test_2.csv, and images/",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
