"""What samples are made of, written to files once: different texts are tokenized once, in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from biod2c_core.atomic import make_folder
from biod2c_core.data.images import resolve_image
from biod2c_core.data.records import Record
from biod2c_core.training.inputs.rows import RowWriter, StoredRecords

T = TypeVar("T")
_PART = 2048  # records, or texts, that go through the tokenizer together
FILES = {
    "ids": "i",
    "labels": "i",
    "questions": "i",
    "queue_texts": "i",  # each different one
    "queues": "i",  # their places
    "boxes": "f",
    "images": "B",  # paths, each different one
    "image_of": "i",  # their places
}


class Processor(Protocol):
    """What batches need of :class:`biod2c_core.model.processing.BioD2CProcessor`."""

    tokenizer: Any
    image_size: int

    def all_text_ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of queue texts."""

    def all_training_ids(
        self, pairs: Sequence[tuple[str, str]]
    ) -> list[tuple[list[int], list[int], list[int]]]:
        """Ids and labels of prompts and answers, ids of bare questions."""


def write_samples(
    folder: Path,
    pairs: Iterable[tuple[Record, Path]],
    processor: Processor,
    queue_size: int,
    with_boxes: bool,
) -> None:
    """Write the files of :class:`~biod2c_core.training.inputs.collate.VQADataset`.

    Args:
        folder: Created where missing.
        pairs: Records, which need not all be in memory at a time, with their image roots.
        processor: The model's.
        queue_size: The most queue texts of a sample.
        with_boxes: Write the records' boxes too.
    """
    make_folder(folder)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(RowWriter(folder, name, code))
            for name, code in {**FILES, StoredRecords.NAME: StoredRecords.CODE}.items()
        }
        samples = _Samples(files, processor, queue_size, with_boxes)
        for part in _parts(pairs):
            samples.add(part)


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, _PART)):
        yield part


class _Samples:
    """Puts records into files."""

    def __init__(
        self, files: dict[str, RowWriter], processor: Processor, queue_size: int, with_boxes: bool
    ) -> None:
        self.files = files
        self.processor = processor
        self.queue_size = queue_size
        self.with_boxes = with_boxes
        self.texts: dict[str, int] = {}
        self.names: dict[tuple[Path, str], int] = {}
        self.images: dict[str, int] = {}

    def add(self, part: Sequence[tuple[Record, Path]]) -> None:
        files, before = self.files, len(self.texts)
        pairs = [(record.question, record.answer) for record, _ in part]
        rows = self.processor.all_training_ids(pairs)
        for (record, root), (ids, labels, question) in zip(part, rows, strict=True):
            files["ids"].add(ids)
            files["labels"].add(labels)
            files["questions"].add(question)
            files["queues"].add(
                self.texts.setdefault(text, len(self.texts))
                for text in record.queue[: self.queue_size]
            )
            files["boxes"].add(chain(*record.boxes) if self.with_boxes else ())
            files["image_of"].add([self.image(root, record.image)])
            files[StoredRecords.NAME].add(record.to_json().encode())
        for texts in _parts(islice(self.texts, before, None)):
            for ids in self.processor.all_text_ids(texts):
                files["queue_texts"].add(ids)

    def image(self, root: Path, name: str) -> int:
        """The number of an image, whose path is written when it is met first."""
        if (root, name) not in self.names:
            path = os.fspath(resolve_image(root, name))
            if path not in self.images:
                self.images[path] = len(self.images)
                self.files["images"].add(os.fsencode(path))
            self.names[root, name] = self.images[path]
        return self.names[root, name]
