"""ProbMed: ``test.json`` (or ``probmed.json``), a JSON array of yes/no questions, beside its images.

Layout by the readme and ``eval/`` of eric-ai-lab/ProbMed and the data card rippleripple/ProbMed: 57,132
questions about 6,303 images; a true and an adversarial question stand together, with ``qa_type``
``modality_gt`` and ``modality_hallu``, or ``entity_gt_1`` and ``entity_hallu_1``. The order of the file
is kept, since the profile ``probmed`` pairs by it.
"""

from __future__ import annotations

from collections import Counter
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
from biod2c_core.data.formats.fields.values import optional, required, tags, yes_no_type
from biod2c_core.data.formats.rows.json_array import iter_json_array

FILES = ("test.json", "probmed.json")
TAGS = {"qa_type": "qa_type", "image_type": "image_type", "src_dataset": "dataset"}
TAKEN = ("id", "i", "image", "question", "answer", *TAGS)


def _files(path: Path) -> list[Path]:
    candidates = [path / name for name in FILES] if path.is_dir() else [path]
    return [file for file in candidates if file.suffix == ".json" and file.is_file()][:1]


def _detect(path: Path) -> bool:
    files = _files(path)
    wanted = {"qa_type", "image_type", "image", "question"}
    return bool(files) and wanted <= first_names(iter_json_array(files[0]))


def _converter() -> Converter:
    seen: Counter[str] = Counter()

    def convert(_: int, row: dict[str, Any]) -> dict[str, Any]:
        answer = optional(row, "answer").lower()
        if answer not in ("yes", "no"):
            raise ValueError(f"the answer must be yes or no, got {answer!r}")
        name = f"probmed-{required(row, 'id')}-{required(row, 'qa_type')}"
        seen[name] += 1
        return {
            "id": f"{name}-{seen[name]}" if seen[name] > 1 else name,
            "image": required(row, "image"),
            "question": required(row, "question").replace("<image>", "").strip(),
            "answer": answer,
            "answer_type": yes_no_type(answer),
            "source": "probmed",
            "split": "test",
            "tags": tags(row, TAGS),
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        rows = iter_json_array(file)
        yield from convert_rows(file, rows, _converter(), TAKEN, options.notes)


FORMAT = Format(
    name="probmed",
    layout="test.json (or probmed.json) and the images it names",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
