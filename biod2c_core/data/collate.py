"""From records to padded batches: the images, the text with its labels, the question, the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from biod2c_core.data.images import load_image, resolve_image
from biod2c_core.data.records import Record

_GROUP = 50  # batches that are sorted by length together


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
    """Records, tokenised once, with their images decoded when they are asked for.

    Args:
        records: With a question and an answer each.
        image_roots: For each record, the folder that ``Record.image`` is relative to.
        processor: The model's.
        queue_size: k, the most queue texts of a sample.
        features: Gives X_v of an image file, (N, N, D), instead of pixels, if given.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_roots: Sequence[Path],
        processor: Processor,
        queue_size: int = 0,
        features: Callable[[Path], Tensor] | None = None,
    ) -> None:
        self.records = list(records)
        self.paths = [
            resolve_image(root, record.image)
            for root, record in zip(image_roots, records, strict=True)
        ]
        self.processor = processor
        self.features = features
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
        sample: dict[str, Any] = {
            "input_ids": ids,
            "labels": labels,
            "question_ids": self._questions[index],
            "queue_ids": self._queues[index],
        }
        if self.features is not None:
            sample["grid_features"] = self.features(self.paths[index])
        else:
            sample["pixel_values"] = self.processor.pixels(load_image(self.paths[index]))
        return sample


class Collator:
    """Pads samples to the batch's longest, with masks."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            samples: B items of :class:`VQADataset`.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels`` (B, P); ``question_ids``,
            ``question_mask`` (B, T); ``pixel_values`` (B, 3, S, S) or ``grid_features``
            (B, N, N, D); and, if any sample has a queue, ``queue_ids``, ``queue_mask`` (B, k, L).
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
        for key in ("pixel_values", "grid_features"):
            if key in samples[0]:
                batch[key] = torch.stack([sample[key] for sample in samples])
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
        return batch


class LengthGroupedSampler(Sampler[int]):
    """A shuffle in which neighbours have about the same length, so that padding is rare.

    The order is a function of seed and epoch alone, which makes resuming exact.

    Args:
        lengths: Length of each sample.
        batch_size: Samples of a batch.
        seed: Of the shuffle.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        span = self.batch_size * _GROUP
        batches = []
        for start in range(0, len(order), span):
            group = sorted(order[start : start + span], key=lambda index: self.lengths[index])
            batches += [
                group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)
            ]
        ragged = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        for place in torch.randperm(len(full), generator=generator).tolist():
            yield from full[place]
        for batch in ragged:  # the last, smaller batch stays last
            yield from batch
