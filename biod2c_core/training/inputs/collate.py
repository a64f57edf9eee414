"""From records to padded batches: the images, the text with its labels, the question, the queue."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from biod2c_core.data.images import load_image
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.model.processing import IGNORED
from biod2c_core.ops.padding import pad
from biod2c_core.ops.square import square
from biod2c_core.training.inputs.rows import Rows, StoredRecords
from biod2c_core.training.inputs.samples import FILES, Processor, write_samples

_SORTED_BATCHES = 50  # batches that are sorted by length together


class VQADataset(Dataset[dict[str, Any]]):
    """Records, tokenized once; the images are left to the collator, once for each in a batch.

    What is made of the records lies in files, which a worker process and the other processes of a
    machine map too: they share its memory.

    Args:
        records: With a question and an answer each.
        image_roots: For each record, the folder that ``Record.image`` is relative to.
        processor: The model's.
        queue_size: k, the most queue texts of a sample.
        with_boxes: Give the records' boxes too.
        folder: For the files; by default a temporary one.
    """

    def __init__(
        self,
        records: Iterable[Record],
        image_roots: Iterable[Path],
        processor: Processor,
        queue_size: int = 0,
        with_boxes: bool = False,
        folder: Path | None = None,
    ) -> None:
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory()
            folder = Path(self._temporary.name)
        pairs = zip(records, image_roots, strict=True)
        write_samples(folder, pairs, processor, queue_size, with_boxes)
        self._open(folder)

    @classmethod
    def open(cls, folder: Path) -> VQADataset:
        """What another process has made in a folder.

        Raises:
            InputError: It has made nothing.
        """
        if not folder.is_dir():
            raise InputError(
                "the first process of this machine could not read the records",
                "See what it has said.",
            )
        dataset = cls.__new__(cls)
        dataset._open(folder)
        return dataset

    def _open(self, folder: Path) -> None:
        self.records: Sequence[Record] = StoredRecords(folder)
        rows = {name: Rows(folder, name, code) for name, code in FILES.items()}
        self._images, self._image_of = rows["images"], np.array(rows["image_of"].flat)
        self._ids, self._labels, self._questions = rows["ids"], rows["labels"], rows["questions"]
        self._queue_texts, self._queues = rows["queue_texts"], rows["queues"]
        self._boxes = rows["boxes"]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("records", "_temporary")}

    def __len__(self) -> int:
        return len(self._image_of)

    @property
    def images(self) -> list[Path]:
        """The image files, each once."""
        return [Path(os.fsdecode(bytes(path))) for path in self._images]

    @property
    def image_numbers(self) -> list[int]:
        """The place in :attr:`images` of each sample's."""
        return self._image_of.tolist()

    @property
    def paths(self) -> list[Path]:
        """The image file of each sample."""
        images = self.images
        return [images[number] for number in self.image_numbers]

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and answer of each sample."""
        return self._ids.lengths

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample, unpadded; of a stand-in of :class:`GroupedSampler`, without what losses count."""
        if index < 0:
            sample = self[~index]
            nothing = [IGNORED] * len(sample["labels"])
            return {**sample, "labels": nothing, "queue_ids": [], "boxes": []}
        boxes = self._boxes[index]
        return {
            "input_ids": self._ids[index],
            "labels": self._labels[index],
            "question_ids": self._questions[index],
            "queue_ids": [self._queue_texts[number] for number in self._queues[index]],
            "boxes": [boxes[start : start + 4] for start in range(0, len(boxes), 4)],
            "image": Path(os.fsdecode(bytes(self._images[int(self._image_of[index])]))),
            "row": index,
        }


def read_pictures(paths: Sequence[Path], side: int) -> Tensor:
    """Decode image files as the vision tower takes them.

    Args:
        paths: n files.
        side: Height and width of the result.

    Returns:
        (n, 3, side, side), uint8, channels last in memory.

    Raises:
        ImageError: One is not a usable image.
    """
    pictures = np.stack([square(load_image(path), side) for path in paths])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


class Collator:
    """Pads samples to the batch's longest, with masks, and reads each image once.

    Args:
        processor: The model's.
        features: Gives X_v of an image file, (N, N, D), instead of pixels, if given.
        keep_rows: Also tell which records a batch holds.
    """

    def __init__(
        self,
        processor: Processor,
        features: Callable[[Path], Tensor] | None = None,
        keep_rows: bool = False,
    ) -> None:
        self.padding = processor.tokenizer.pad_token_id
        self.image_size = processor.image_size
        self.features = features
        self.keep_rows = keep_rows

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            samples: B items of :class:`VQADataset`.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels`` (B, P); ``question_ids``,
            ``question_mask`` (B, T); ``pixel_values`` (images, 3, S, S), uint8, channels
            last in memory, or ``grid_features`` (images, N, N, D), and ``image_rows`` (B,), the image
            of each sample; and, if any sample has a queue, ``queue_ids``, ``queue_mask`` (B, k, L);
            if any has boxes, ``boxes`` (B, R, 4), without area where there is none; ``record_rows``
            (B,), the place of each sample in the data set, if asked for.
        """
        fill = self.padding
        input_ids, attention_mask = pad([sample["input_ids"] for sample in samples], fill)
        question_ids, question_mask = pad([sample["question_ids"] for sample in samples], fill)
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": pad([sample["labels"] for sample in samples], IGNORED)[0],
            "question_ids": question_ids,
            "question_mask": question_mask,
        }
        if self.keep_rows:
            batch["record_rows"] = torch.tensor([sample["row"] for sample in samples])
        paths = list(dict.fromkeys(sample["image"] for sample in samples))
        batch["image_rows"] = torch.tensor([paths.index(sample["image"]) for sample in samples])
        if self.features is not None:
            batch["grid_features"] = torch.stack([self.features(path) for path in paths])
        else:
            batch["pixel_values"] = read_pictures(paths, self.image_size)
        size = max(len(sample["queue_ids"]) for sample in samples)
        if size:
            rows = [
                text
                for sample in samples
                for text in sample["queue_ids"] + [[]] * (size - len(sample["queue_ids"]))
            ]
            ids, mask = pad(rows, fill)
            batch["queue_ids"] = ids.view(len(samples), size, -1)
            batch["queue_mask"] = mask.view(len(samples), size, -1)
        if most := max(len(sample["boxes"]) for sample in samples):
            batch["boxes"] = torch.zeros(len(samples), most, 4)
            for row, sample in zip(batch["boxes"], samples, strict=True):
                for place, box in zip(row, sample["boxes"], strict=False):
                    place.copy_(torch.tensor(box))
        return batch


class GroupedSampler(Sampler[int]):
    """A shuffle in which neighbours are about as long, and a few questions share their image.

    So padding is rare, and an image is encoded once for several questions. The order is a function
    of seed and epoch alone, which makes resuming exact.

    Args:
        lengths: Length of each sample.
        images: The image of each sample.
        batch_size: Samples of a batch.
        seed: Of the shuffle.
        questions_per_image: Most questions about one image that stay together.
        multiple: Of which the number of samples is made one, by stand-ins: several processes need as many
            batches each.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        images: Sequence[Hashable],
        batch_size: int,
        seed: int,
        questions_per_image: int = 1,
        multiple: int = 1,
    ) -> None:
        self.lengths = lengths
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.questions_per_image = questions_per_image
        self.stand_ins = -len(lengths) % multiple
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) + self.stand_ins

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The place of each sample; ``~place`` is a stand-in, which no loss counts."""
        random = Random(self.seed * 1_000_003 + self.epoch)
        order = list(range(len(self.lengths)))
        random.shuffle(order)
        groups = self._groups(order)
        random.shuffle(groups)
        batches: list[list[int]] = []
        span = max(1, self.batch_size * _SORTED_BATCHES // self.questions_per_image)
        for start in range(0, len(groups), span):
            part = sorted(
                groups[start : start + span], key=lambda group: max(self.lengths[i] for i in group)
            )
            flat = [index for group in part for index in group]
            batches += [flat[i : i + self.batch_size] for i in range(0, len(flat), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        random.shuffle(full)
        rest = [index for batch in batches if len(batch) < self.batch_size for index in batch]
        in_order = list(chain(*full, rest))  # what fills no batch comes last
        yield from in_order
        yield from [~last for last in in_order[-1:]] * self.stand_ins

    def _groups(self, order: list[int]) -> list[list[int]]:
        """Cut each image's samples, in their shuffled order, into groups that stay together."""
        of_image: dict[Hashable, list[int]] = {}
        for index in order:
            of_image.setdefault(self.images[index], []).append(index)
        size = self.questions_per_image
        return [
            indices[i : i + size]
            for indices in of_image.values()
            for i in range(0, len(indices), size)
        ]
