"""Batches: masks and padding, each image read once, and an order that depends on seed and epoch only."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from biod2c_core.data.records import Record, iter_records
from biod2c_core.errors import ImageError
from biod2c_core.model.processing import IGNORED, BioD2CProcessor
from biod2c_core.model.vision import PixelScale
from biod2c_core.training.inputs import collate
from biod2c_core.training.inputs.collate import Collator, GroupedSampler, VQADataset

Sizes = st.lists(st.integers(1, 40), max_size=120)


@pytest.fixture(scope="module")
def processor() -> BioD2CProcessor:
    return BioD2CProcessor(tiny_models.make_tokenizer(), image_size=16, max_question_tokens=8)


@pytest.fixture
def samples(processor: BioD2CProcessor, data: Path) -> VQADataset:
    records = list(iter_records(data))
    return VQADataset(records, [data.parent] * len(records), processor, queue_size=3)


def test_every_row_of_a_batch_is_its_sample(
    samples: VQADataset, processor: BioD2CProcessor
) -> None:
    chosen = [samples[index] for index in (0, 1, 2, 3)]
    batch = Collator(processor)(chosen)
    for row, sample in enumerate(chosen):
        for name, mask, fill in (
            ("input_ids", "attention_mask", 0),
            ("labels", "attention_mask", IGNORED),
            ("question_ids", "question_mask", 0),
        ):
            real = batch[mask][row].bool()
            assert batch[name][row][real].tolist() == sample[name]
            assert (batch[name][row][~real] == fill).all()
            assert real.tolist() == [True] * len(sample[name]) + [False] * (len(real) - real.sum())
        texts = [
            ids[mask.bool()].tolist()
            for ids, mask in zip(batch["queue_ids"][row], batch["queue_mask"][row], strict=True)
        ]
        assert texts == sample["queue_ids"] + [[]] * (3 - len(sample["queue_ids"]))
    assert {len(sample["queue_ids"]) for sample in chosen} == {0, 2, 3}


def test_padding_goes_no_further_than_the_longest(
    samples: VQADataset, processor: BioD2CProcessor
) -> None:
    batch = Collator(processor)([samples[0], samples[3]])
    for mask in ("attention_mask", "question_mask"):
        assert batch[mask].sum(1).max() == batch[mask].shape[1]
    assert batch["queue_mask"].any(-1).sum(1).max() == batch["queue_mask"].shape[1]


def test_an_image_is_read_once_for_all_its_questions(
    samples: VQADataset, processor: BioD2CProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load = collate.load_image

    def counted(path: Path) -> Any:
        read.append(path)
        return load(path)

    monkeypatch.setattr(collate, "load_image", counted)
    chosen = [samples[index] for index in (1, 6, 0, 5)]  # images 1, 1, 0, 0
    batch = Collator(processor)(chosen)
    assert [path.name for path in read] == ["1.png", "0.png"]
    assert batch["pixel_values"].shape == (2, 3, 16, 16)
    assert batch["image_rows"].tolist() == [0, 0, 1, 1]
    assert batch["pixel_values"].dtype == torch.uint8
    pixels = PixelScale(processor.image_mean, processor.image_std)(batch["pixel_values"])
    for row, sample in zip(batch["image_rows"], chosen, strict=True):
        assert torch.equal(pixels[row], processor.pixels(load(sample["image"])))


def test_features_stand_for_pixels(samples: VQADataset, processor: BioD2CProcessor) -> None:
    def features(path: Path) -> torch.Tensor:
        return torch.full((2, 2, 4), float(path.stem))

    batch = Collator(processor, features)([samples[index] for index in (2, 0, 7)])
    assert "pixel_values" not in batch
    assert batch["grid_features"][batch["image_rows"]][:, 0, 0, 0].tolist() == [2.0, 0.0, 2.0]


@pytest.mark.parametrize("queue", [(), ("",)])
def test_batches_without_queue_texts(
    queue: tuple[str, ...], processor: BioD2CProcessor, data: Path
) -> None:
    """No texts, no tensors; empty texts are missing entries."""
    record = Record("a", "0.png", "is it?", "yes", queue=queue)
    samples = VQADataset([record], [data.parent], processor, queue_size=3)
    batch = Collator(processor)([samples[0]])
    if queue:
        assert batch["queue_mask"].shape[:2] == (1, 1)
        assert not batch["queue_mask"].any()
    else:
        assert "queue_ids" not in batch


def test_queue_size_cuts_the_queue(processor: BioD2CProcessor, data: Path) -> None:
    record = Record("a", "0.png", "is it?", "yes", queue=("one", "two", "three"))
    for size in (0, 2, 9):
        samples = VQADataset([record], [data.parent], processor, size)
        assert samples[0]["queue_ids"] == [processor.text_ids(t) for t in record.queue[:size]]


def test_boxes_are_padded_with_boxes_without_area(processor: BioD2CProcessor, data: Path) -> None:
    first, second, third = ((0.0, 0.0, 0.5, 0.5), (0.25, 0.5, 0.75, 1.0), (0.5, 0.0, 1.0, 1.0))
    of_records = [(first, second), (), (third,)]
    records = [
        replace(record, boxes=boxes)
        for record, boxes in zip(iter_records(data), of_records, strict=False)
    ]
    roots = [data.parent] * len(records)
    guided = VQADataset(records, roots, processor, queue_size=0, with_boxes=True)
    batch = Collator(processor)([guided[index] for index in range(3)])
    nothing = [0.0] * 4
    assert batch["boxes"].tolist() == [
        [list(first), list(second)],
        [nothing, nothing],
        [list(third), nothing],
    ]
    unguided = VQADataset(records, roots, processor, queue_size=0)
    assert "boxes" not in Collator(processor)([unguided[0]])


def test_lengths_are_those_of_prompt_and_answer(samples: VQADataset) -> None:
    assert len(samples) == 12
    assert samples.lengths == [len(samples[index]["input_ids"]) for index in range(12)]


def test_image_outside_its_root_is_refused(processor: BioD2CProcessor, tmp_path: Path) -> None:
    record = Record("a", "../secret.png", "is it?", "yes")
    with pytest.raises(ImageError, match="outside the image root"):
        VQADataset([record], [tmp_path], processor)


def sampler(
    sizes: list[int], batch: int, seed: int, together: int = 1, images: int = 7
) -> GroupedSampler:
    paths = [Path(f"{(index * 5) % images}.png") for index in range(len(sizes))]
    return GroupedSampler(sizes, paths, batch, seed, together)


@given(Sizes, st.integers(1, 9), st.integers(0, 5), st.integers(0, 3), st.integers(1, 4))
def test_each_sample_comes_once_and_the_order_follows_seed_and_epoch(
    sizes: list[int], batch: int, seed: int, epoch: int, together: int
) -> None:
    first, second = (sampler(sizes, batch, seed, together) for _ in range(2))
    first.set_epoch(epoch)
    second.set_epoch(epoch)
    order = list(first)
    assert sorted(order) == list(range(len(sizes))) == list(range(len(first)))
    assert order == list(second) == list(first)


@pytest.mark.parametrize(
    ("count", "size", "processes"), [(6, 4, 2), (5, 2, 2), (1, 4, 3), (8, 4, 2), (9, 2, 3)]
)
def test_each_sample_comes_once_however_many_processes_share_the_last_batches(
    count: int, size: int, processes: int
) -> None:
    """As accelerate deals them out: all have as many batches, and it repeats none."""
    places = [Path("one.png")] * count
    order = GroupedSampler([1] * count, places, 8, 0, multiple=size * processes)
    batches = BatchSampler(order, size, drop_last=False)
    shares = [list(BatchSamplerShard(batches, processes, index)) for index in range(processes)]
    assert len({len(share) for share in shares}) == 1
    dealt = [index for share in shares for batch in share for index in batch]
    assert sorted(index for index in dealt if index >= 0) == list(range(count))
    assert len(dealt) == len(order)


def test_a_stand_in_is_its_sample_without_what_losses_count(
    processor: BioD2CProcessor, data: Path
) -> None:
    records = list(iter_records(data))
    samples = VQADataset(records, [data.parent] * len(records), processor, 3, with_boxes=True)
    sample, stand_in = samples[0], samples[~0]
    assert sample["queue_ids"]
    assert sample["boxes"]
    nothing = {"labels": [IGNORED] * len(sample["labels"]), "queue_ids": [], "boxes": []}
    assert stand_in == {**sample, **nothing}


def test_another_seed_or_epoch_is_another_order() -> None:
    sizes = list(range(100))
    base, seeded, later = sampler(sizes, 4, 0), sampler(sizes, 4, 1), sampler(sizes, 4, 0)
    later.set_epoch(1)
    orders = {tuple(base), tuple(seeded), tuple(later)}
    assert len(orders) == 3


def test_neighbours_have_about_the_same_length() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(5, 200, (400,), generator=generator).tolist()
    order = list(sampler(sizes, 8, 0))
    padded = sum(8 * max(sizes[i] for i in order[b : b + 8]) for b in range(0, 400, 8))
    assert padded < 1.1 * sum(sizes)  # a plain shuffle pads to about 1.7 times as much


def test_batches_come_in_no_order_of_length() -> None:
    sizes = list(range(400))
    order = list(sampler(sizes, 8, 0))
    means = [sum(order[b : b + 8]) / 8 for b in range(0, 400, 8)]
    rises = sum(second > first for first, second in pairwise(means))
    assert 10 < rises < 39


def test_questions_about_one_image_stay_together() -> None:
    chosen = sampler([5] * 120, 8, 0, together=4, images=6)
    order = list(chosen)
    images = [len({chosen.images[i] for i in order[b : b + 8]}) for b in range(0, 120, 8)]
    assert max(images[:-1]) <= 3  # two groups of four, or one cut by the border
    scattered = sampler([5] * 120, 8, 0, together=1, images=6)
    order = list(scattered)
    alone = [len({scattered.images[i] for i in order[b : b + 8]}) for b in range(0, 120, 8)]
    assert sum(alone) > 1.5 * sum(images)
