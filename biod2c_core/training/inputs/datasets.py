"""The records of a run as data sets, and the trunk's features of their images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from biod2c_core.config import StageSettings
from biod2c_core.data.formats import ReadOptions, image_root, read_records
from biod2c_core.data.images import check_image_file
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.inputs.collate import VQADataset
from biod2c_core.training.inputs.feature_cache import FeatureCache, default_cache_folder
from biod2c_core.training.logs.run_log import Reporter


def load_dataset(
    sources: Sequence[Path],
    split: str,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    settings: StageSettings,
    stage: int,
    note: Callable[[str], None] = lambda _: None,
) -> VQADataset:
    """The rows meant for a split, all usable: every row has an answer, an image, and fits the model.

    Of a source without splits these are all rows; of one with splits those of ``split`` and, for
    training, those without one. Rows without an answer (SLAKE publishes one) are left out. ``note`` is
    told how many rows of which split were taken and what was left out.

    Args:
        sources: Record files or data set folders.
        split: ``train`` or ``validation``.
        model: Says how long a row may be.
        processor: Makes the tokens.
        settings: Of the stage.
        stage: 1 or 2.
        note: Called with each thing to tell.

    Raises:
        InputError: No row is meant for the split, an image is missing, a row is too long, or no row
            has an answer.
    """
    records: list[Record] = []
    paths: list[Path] = []
    unanswered: list[str] = []
    for source in sources:
        root, options = image_root(source), ReadOptions()
        meant = meant_for(read_records(source, options=options), split, source, note)
        for line in options.notes.lines():
            note(f"{source}: {line}")
        for record in meant:
            if record.answer:
                records.append(record)
                paths.append(root)
            else:
                unanswered.append(record.id)
    if not records:
        reason = f"record {unanswered[0]!r} has no answer" if unanswered else f"no {split} records"
        reason = reason.replace("train ", "training ")
        raise InputError(f"{', '.join(map(str, sources))}: {reason}", "Training needs answers.")
    if unanswered:
        note(
            f"left out for want of an answer: {unanswered[0]!r}, records in all: {len(unanswered)}"
        )
    wants_queue = stage == 2 and model.config.semantic_loss != "off" and settings.semantic_weight
    queue_size = settings.queue_size if wants_queue else 0
    dataset = VQADataset(records, paths, processor, queue_size, bool(settings.attention_weight))
    for path in dict.fromkeys(dataset.paths):
        check_image_file(path)  # a missing image stops the run now, not in the middle of an epoch
    _check_lengths(dataset, model)
    return dataset


def meant_for(
    records: Sequence[Record], split: str, source: Path, note: Callable[[str], None]
) -> Sequence[Record]:
    """The rows of a source that are meant for a split: all of them, where it has no splits.

    Args:
        records: All rows of the source.
        split: ``train``, which takes rows without a split too, or ``validation``.
        source: Where they come from, for messages.
        note: Told how many of which were taken, where not all are.

    Raises:
        InputError: It has splits, but no row of this one to validate on.
    """
    counts = Counter(record.split for record in records)
    if set(counts) == {""}:
        return records
    wanted = ("train", "") if split == "train" else (split,)
    meant = [record for record in records if record.split in wanted]
    there = ", ".join(f"{name or 'no split'} {count:,}" for name, count in counts.items())
    if not meant and split != "train":
        raise InputError(
            f"{source} has splits, but no {split} row ({there})",
            "Name a file with such rows, or one without splits.",
        )
    if len(meant) < len(records):
        note(f"{source}: {len(meant):,} of {len(records):,} rows are for {split} ({there})")
    return meant


def check_apart(training: VQADataset, validation: VQADataset) -> None:
    """Check that no question is in both sets: the same one about the same image with the same answer.

    Raises:
        InputError: One is; both records are named, and how many there are.
    """
    files: dict[Path, str] = {}

    def key(record: Record, path: Path) -> tuple[str, ...]:
        if path not in files:
            files[path] = os.path.realpath(path)
        texts = (record.question, record.answer)
        return (files[path], *(" ".join(text.lower().split()) for text in texts))

    pairs = zip(training.records, training.paths, strict=True)
    trained = {key(record, path): record.id for record, path in pairs}
    pairs = zip(validation.records, validation.paths, strict=True)
    both = [(trained[k], r.id) for r, path in pairs if (k := key(r, path)) in trained]
    if both:
        first, second = both[0]
        raise InputError(
            f"{len(both):,} of {len(validation.records):,} validation rows are also trained on, such "
            f"as {second!r} (in training: {first!r})",
            "Validate on other rows; biod2c data split makes some.",
        )


def _check_lengths(dataset: VQADataset, model: BioD2CForConditionalGeneration) -> None:
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    for record, length in zip(dataset.records, dataset.lengths, strict=True):
        needed = model.config.num_visual_tokens + length
        if limit is not None and needed > limit:
            raise InputError(
                f"record {record.id!r} takes {needed} tokens with its image, and the language "
                f"model reads {limit}",
                "Shorten its question or answer, or leave it out.",
            )


def cached_features(
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    datasets: Sequence[VQADataset],
    reporter: Reporter,
    settings: StageSettings,
    workers: int = 0,
) -> FeatureCache | None:
    """The frozen trunk's features of all images, computed where they are not on disk yet.

    Args:
        model: Its vision tower computes them.
        processor: Its own.
        datasets: Whose images.
        reporter: Told about progress.
        settings: Whether they are wanted, and how they are kept.
        workers: Processes that read images ahead.
    """
    if not settings.cache_features:
        return None
    folder, kind = default_cache_folder(), settings.feature_type
    cache = FeatureCache(folder, model.vision, processor, kind)
    paths = sorted({path for dataset in datasets for path in dataset.paths})
    reporter.encoding(len(paths))
    cache.fill(paths, reporter.encoded, workers, reporter.note)
    return cache
