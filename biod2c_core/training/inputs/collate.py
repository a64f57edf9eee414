"""From records to padded batches: the images, the text with its labels, the question, the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from biod2c_core.data.images import load_image, resolve_image
from biod2c_core.data.records import Record

_SORTED_BATCHES = 50  # batches that are sorted by length together


class Processor(Protocol):
    """What batches need of :class:`biod2c_core.model.processing.BioD2CProcessor`."""

    def pixels(self, image: Image.Image) -> Tensor:
        """One image as (3, S, S)."""

    def question_ids(self, question: str) -> list[int]:
        """Ids of the bare question."""

    def text_ids(self, text: str) -> list[int]:
        """Ids of a queue text."""

    def training_ids(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """Ids and labels of prompt and answer."""

    def pad(
        self, rows: Sequence[Sequence[int]], side: str = "right", value: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ids and mask."""


class VQADataset(Dataset[dict[str, Any]]):
    """Records, tokenized once; the images are left to the collator, once for each in a batch.

    Args:
        records: With a question and an answer each.
        image_roots: For each record, the folder that ``Record.image`` is relative to.
        processor: The model's.
        queue_size: k, the most queue texts of a sample.
        with_boxes: Give the records' boxes too.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_roots: Sequence[Path],
        processor: Processor,
        queue_size: int = 0,
        with_boxes: bool = False,
    ) -> None:
        self.with_boxes = with_boxes
        self.records = list(records)
        self.paths = [
            resolve_image(root, record.image)
            for root, record in zip(image_roots, records, strict=True)
        ]
        self._texts = [processor.training_ids(each.question, each.answer) for each in records]
        self._questions = [processor.question_ids(each.question) for each in records]
        known: dict[str, list[int]] = {}
        self._queues: list[list[list[int]]] = []
        for record in records:
            for text in record.queue[:queue_size]:
                if text not in known:
                    known[text] = processor.text_ids(text)
            self._queues.append([known[text] for text in record.queue[:queue_size]])

    def __len__(self) -> int:
        return len(self.records)

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and answer of each sample."""
        return [len(ids) for ids, _ in self._texts]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample, unpadded."""
        ids, labels = self._texts[index]
        return {
            "input_ids": ids,
            "labels": labels,
            "question_ids": self._questions[index],
            "queue_ids": self._queues[index],
            "boxes": self.records[index].boxes if self.with_boxes else (),
            "image": self.paths[index],
            "row": index,
        }


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
        self.processor = processor
        self.features = features
        self.keep_rows = keep_rows

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            samples: B items of :class:`VQADataset`.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels`` (B, P); ``question_ids``,
            ``question_mask`` (B, T); ``pixel_values`` (images, 3, S, S) or ``grid_features``
            (images, N, N, D) and ``image_rows`` (B,), the image of each sample; and, if any sample
            has a queue, ``queue_ids``, ``queue_mask`` (B, k, L); if any has boxes, ``boxes``
            (B, R, 4), without area where there is none; ``record_rows`` (B,), the place of
            each sample in the data set, if asked for.
        """
        pad = self.processor.pad
        input_ids, attention_mask = pad([sample["input_ids"] for sample in samples])
        question_ids, question_mask = pad([sample["question_ids"] for sample in samples])
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": pad([sample["labels"] for sample in samples], value=-100)[0],
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
            pixels = [self.processor.pixels(load_image(path)) for path in paths]
            batch["pixel_values"] = torch.stack(pixels)
        size = max(len(sample["queue_ids"]) for sample in samples)
        if size:
            rows = [
                text
                for sample in samples
                for text in sample["queue_ids"] + [[]] * (size - len(sample["queue_ids"]))
            ]
            ids, mask = pad(rows)
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
    """

    def __init__(
        self,
        lengths: Sequence[int],
        images: Sequence[Path],
        batch_size: int,
        seed: int,
        questions_per_image: int = 1,
    ) -> None:
        self.lengths = lengths
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.questions_per_image = questions_per_image
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
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
        for batch in [*full, rest]:  # what fills no batch comes last
            yield from batch

    def _groups(self, order: list[int]) -> list[list[int]]:
        """Cut each image's samples, in their shuffled order, into groups that stay together."""
        of_image: dict[Path, list[int]] = {}
        for index in order:
            of_image.setdefault(self.images[index], []).append(index)
        size = self.questions_per_image
        return [
            indices[i : i + size]
            for indices in of_image.values()
            for i in range(0, len(indices), size)
        ]
