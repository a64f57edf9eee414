"""PathVQA: ``qas/{train,val,test}/*_qa.pkl`` and ``images/{train,val,test}/*.jpg``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import Converter, Format, ReadOptions, Row, convert_rows
from biod2c_core.data.formats.fields.values import optional, required, yes_no_type
from biod2c_core.data.formats.plain_pickle import load_plain_pickle
from biod2c_core.errors import InputError

SPLITS = {"train": "train", "val": "validation", "test": "test"}
TAKEN = ("image", "question", "answer")


def _image_root(path: Path) -> Path:
    """The folder with ``qas`` and ``images``: itself, its ``pvqa``, or the one a file is in."""
    if path.is_file():
        return path.absolute().parent.parent.parent
    return path / "pvqa" if (path / "pvqa" / "qas").is_dir() else path


def _files(path: Path) -> list[Path]:
    if path.is_file():
        known = path.name.endswith("_qa.pkl") and path.absolute().parent.name in SPLITS
        return [path] if known else []
    folders = (_image_root(path) / "qas" / split for split in SPLITS)
    return [file for folder in folders for file in sorted(folder.glob("*_qa.pkl"))]


def _converter(folder: str) -> Converter:
    def convert(number: int, row: dict[str, Any]) -> dict[str, Any]:
        answer = optional(row, "answer")
        return {
            "id": f"path-vqa-{SPLITS[folder]}-{number}",
            "image": f"images/{folder}/{required(row, 'image')}.jpg",
            "question": required(row, "question"),
            "answer": answer,
            "answer_type": yes_no_type(answer),
            "source": "path-vqa",
            "split": SPLITS[folder],
        }

    return convert


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    for file in _files(path):
        rows = load_plain_pickle(file)
        if not isinstance(rows, list):
            raise InputError(f"{file} holds no list of questions", "Expected PathVQA's *_qa.pkl.")
        folder = file.absolute().parent.name
        yield from convert_rows(
            file, enumerate(rows, start=1), _converter(folder), TAKEN, options.notes
        )


FORMAT = Format(
    name="path-vqa",
    layout="qas/{train,val,test}/*_qa.pkl and images/{train,val,test}/ (perhaps inside pvqa/)",
    detect=lambda path: bool(_files(path)),
    read=_read,
    image_root=_image_root,
)
