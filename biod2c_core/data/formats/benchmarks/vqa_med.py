"""ImageCLEF VQA-Med 2019, 2020 and 2021: lines of ``image|question|answer`` beside folders of images.

Layout and counts by the readme files of abachaa/VQA-Med-2019, -2020 and -2021: 2019 has 12,792
training, 2,000 validation and 500 test questions; 2020 4,000, 500 and 500; 2021 trains on those of 2020
and has 500 validation and 500 test questions, about abnormalities. The test questions of 2020 and 2021
have their answers in a second file. Several right answers stand between ``#`` (2019) or ``|`` (2021);
here between ``#``, as the profile ``vqa-med`` reads them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
from biod2c_core.data.formats.fields.values import optional, required, yes_no_type
from biod2c_core.data.formats.rows.text import cut_lines

GOLDS = "#"
_MOST_FOLDERS = 64
_TAKEN = ("image", "question", "answer", "category")


@dataclass(frozen=True)
class _Part:
    """One split of one year: its file of questions, its folders of images, its file of answers."""

    year: str
    split: str
    questions: str
    images: tuple[str, ...]
    answers: str = ""
    has_category: bool = False


PARTS = (
    _Part("2019", "train", "All_QA_Pairs_train.txt", ("Train_images",)),
    _Part("2019", "validation", "All_QA_Pairs_val.txt", ("Val_images",)),
    _Part(
        "2019",
        "test",
        "VQAMed2019_Test_Questions_w_Ref_Answers.txt",
        ("VQAMed2019_Test_Images", "Test_Images"),
        has_category=True,
    ),
    _Part(
        "2020",
        "train",
        "VQAnswering_2020_Train_QA_pairs.txt",
        ("VQAnswering_2020_Train_images",),
    ),
    _Part(
        "2020",
        "validation",
        "VQAnswering_2020_Val_QA_Pairs.txt",
        ("VQAnswering_2020_Val_images",),
    ),
    _Part(
        "2020",
        "test",
        "VQAMed2020-Task1-VQAnswering-Test-Questions.txt",
        ("Task1-2020-VQAnswering-Test-Images", "VQAMed2020-Task1-VQAnswering-Test-Images"),
        answers="VQAMed2020-Task1-VQAnswering-Test-ReferenceAnswers.txt",
    ),
    _Part(
        "2021",
        "validation",
        "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt",
        ("ImageCLEF-2021-VQA-Med-New-Validation-Images",),
    ),
    _Part(
        "2021",
        "test",
        "Task1-VQA-2021-TestSet-Questions.txt",
        ("VQA-500-Images", "images/VQA-500-Images", "Task1-VQA-2021-TestSet-Images"),
        answers="Task1-VQA-2021-TestSet-ReferenceAnswers.txt",
    ),
)


def _folders(path: Path) -> list[Path]:
    """The folder, its sub-folders and theirs, as many as a release has."""
    found, level = [path], [path]
    for _ in range(2):
        level = [each for folder in level for each in _folders_in(folder)][:_MOST_FOLDERS]
        found += level
    return found


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:  # no look at each of a hundred thousand images
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def _files(path: Path) -> list[tuple[_Part, Path]]:
    if path.is_file():
        return [(part, path) for part in PARTS if part.questions == path.name]
    if not path.is_dir():
        return []
    folders = _folders(path)
    return [
        (part, folder / part.questions)
        for part in PARTS
        for folder in folders
        if (folder / part.questions).is_file()
    ]


def _detect(path: Path) -> bool:
    try:
        return bool(_files(path))
    except OSError:
        return False


def _answers(part: _Part, file: Path) -> dict[str, str] | None:
    """Image to its answers; None where the questions have theirs beside them, or none are there."""
    answers = file.with_name(part.answers) if part.answers else file
    if not part.answers or not answers.is_file():
        return None
    return {parts[0]: _golds(parts[1:]) for _, parts in cut_lines(answers, "|")}


def _golds(parts: list[str]) -> str:
    return GOLDS.join(part for part in parts if part)


def _rows(part: _Part, file: Path) -> Iterator[tuple[int, Any]]:
    """Each line as an object, or the ``ValueError`` that says what is wrong with it."""
    answers = _answers(part, file)
    names = ["image", *(["category"] if part.has_category else []), "question"]
    expected = len(names) + (not part.answers)
    for line, parts in cut_lines(file, "|"):
        if len(parts) < expected or (part.answers and len(parts) > expected):
            yield line, ValueError(f"expected {expected} parts between '|', got {len(parts)}")
            continue
        row = dict(zip(names, parts, strict=False))
        if answers is None:
            row["answer"] = _golds(parts[len(names) :])
        elif row["image"] in answers:
            row["answer"] = answers[row["image"]]
        else:
            yield line, ValueError(f"{part.answers} has no answer for {row['image']!r}")
            continue
        yield line, row


def _converter(part: _Part, folder: str) -> Converter:
    seen: Counter[str] = Counter()

    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        image, answer = required(row, "image"), optional(row, "answer")
        seen[image] += 1  # in training an image has several questions
        again = f"-{seen[image]}" if seen[image] > 1 else ""
        category = optional(row, "category")
        return {
            "id": f"vqa-med-{part.year}-{part.split}-{image}{again}",
            "image": f"{folder}/{image}.jpg",
            "question": required(row, "question"),
            "answer": answer,
            "answer_type": yes_no_type(answer),
            "source": f"vqa-med-{part.year}",
            "split": part.split,
            "tags": {"question_type": category} if category else {},
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    root = folder_of(path)
    for part, file in _files(path):
        name = next((n for n in part.images if (file.parent / n).is_dir()), part.images[0])
        folder = (file.parent / name).relative_to(root).as_posix()
        convert = _converter(part, folder)
        yield from convert_rows(file, _rows(part, file), convert, _TAKEN, options.notes)


FORMAT = Format(
    name="vqa-med",
    layout="the text files of VQA-Med 2019, 2020 or 2021 beside their folders of images, as unpacked",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
