"""The records of a run as data sets, and the trunk's features of their images."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import tee
from operator import itemgetter
from pathlib import Path

from transformers import TrainingArguments

from biod2c_core.config import StageSettings
from biod2c_core.data.formats import ReadOptions, image_root, iter_good_records
from biod2c_core.data.formats.fields.notes import Notes
from biod2c_core.data.images import check_image_file
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.inputs.collate import VQADataset
from biod2c_core.training.inputs.feature_cache import FeatureCache, default_cache_folder
from biod2c_core.training.logs.run_log import Reporter


@contextmanager
def shared_samples(output: Path, arguments: TrainingArguments) -> Iterator[Path]:
    """A folder for what the processes of a machine share of the records; gone when the block ends.

    Args:
        output: The run folder.
        arguments: Know the place of this process among the others.
    """
    here = arguments.local_process_index
    folder = output / f"samples-{arguments.process_index - here}"  # by the machine's first process
    if here == 0:
        shutil.rmtree(folder, ignore_errors=True)  # what a kill has left
    try:
        yield folder
    finally:
        if here == 0:
            shutil.rmtree(folder, ignore_errors=True)


def load_or_open(
    sources: Mapping[str, Sequence[Path]],
    samples: Path,
    first: bool,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    settings: StageSettings,
    stage: int,
    note: Callable[[str], None],
) -> list[VQADataset]:
    """The data sets of a run: read by the first process of a machine, then mapped by the others.

    Args:
        sources: Record files or data set folders of ``train`` and, if it is wanted, ``validation``.
        samples: From :func:`shared_samples`.
        first: Whether this process is to read them.
        model: As :func:`load_dataset`, like the rest.
        processor: Likewise.
        settings: Likewise.
        stage: Likewise.
        note: Likewise.

    Raises:
        InputError: As :func:`load_dataset` and :func:`check_apart`; or the first process has failed.
    """
    if not first:
        return [VQADataset.open(samples / split) for split in sources]
    try:
        parts = (model, processor, settings, stage, note)
        datasets = [
            load_dataset(paths, split, *parts, samples / split) for split, paths in sources.items()
        ]
        if len(datasets) > 1:
            check_apart(*datasets)
    except BaseException:
        shutil.rmtree(samples, ignore_errors=True)  # the others must not go on with it
        raise
    return datasets


def load_dataset(
    sources: Sequence[Path],
    split: str,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    settings: StageSettings,
    stage: int,
    note: Callable[[str], None] = lambda _: None,
    folder: Path | None = None,
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
        folder: For what is made of the rows; by default a temporary one.

    Raises:
        InputError: No row is meant for the split, an image is missing, a row is too long, or no row
            has an answer.
    """
    wants_queue = stage == 2 and model.config.semantic_loss != "off" and settings.semantic_weight
    records, roots = tee(_answered(sources, split, note))  # row by row, never all in memory
    dataset = VQADataset(
        map(itemgetter(0), records),
        map(itemgetter(1), roots),
        processor,
        settings.queue_size if wants_queue else 0,
        bool(settings.attention_weight),
        folder,
    )
    for path in dataset.images:
        check_image_file(path)  # a missing image stops the run now, not in the middle of an epoch
    _check_lengths(dataset, model)
    return dataset


def _answered(
    sources: Sequence[Path], split: str, note: Callable[[str], None]
) -> Iterator[tuple[Record, Path]]:
    """The rows of all sources that have an answer, with their image roots."""
    taken, unanswered, first = 0, 0, ""
    for source in sources:
        root, options = image_root(source), ReadOptions()
        for record in meant_for(source, split, note, options):
            if record.answer:
                taken += 1
                yield record, root
            else:
                first = first or record.id
                unanswered += 1
        for line in options.notes.lines():
            note(f"{source}: {line}")
    if not taken:
        reason = f"record {first!r} has no answer" if unanswered else f"no {split} records"
        reason = reason.replace("train ", "training ")
        raise InputError(f"{', '.join(map(str, sources))}: {reason}", "Training needs answers.")
    if unanswered:
        note(f"left out for want of an answer: {first!r}, records in all: {unanswered}")


def meant_for(
    source: Path, split: str, note: Callable[[str], None], options: ReadOptions | None = None
) -> Iterator[Record]:
    """Read the rows of a source that are meant for a split: all of them, where it has no splits.

    Args:
        source: A record file or data set folder.
        split: ``train``, which takes rows without a split too, or ``validation``.
        note: Told how many of which were taken, where not all are.
        options: Of the format.

    Raises:
        InputError: It has no row; or it has splits, but no row of this one to validate on.
    """
    wanted = ("train", "") if split == "train" else (split,)
    options = options or ReadOptions()
    if split != "train":  # what it has is known after a first reading, of which nothing is told
        quiet = replace(options, notes=Notes())
        if not any(record.split for record in iter_good_records(source, options=quiet)):
            wanted = ("",)
    counts: Counter[str] = Counter()
    for record in iter_good_records(source, options=options):
        counts[record.split] += 1
        if record.split in wanted:
            yield record
    if not counts:
        raise InputError(f"no record in {source}", "Give a file or folder with records.")
    meant, rows = sum(counts[each] for each in wanted), counts.total()
    there = ", ".join(f"{name or 'no split'} {count:,}" for name, count in counts.items())
    if not meant and split != "train":
        raise InputError(
            f"{source} has splits, but no {split} row ({there})",
            "Name a file with such rows, or one without splits.",
        )
    if meant < rows:
        note(f"{source}: {meant:,} of {rows:,} rows are for {split} ({there})")


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

    pairs = zip(validation.records, validation.paths, strict=True)
    validated = [(key(record, path), record.id) for record, path in pairs]
    asked = {each for each, _ in validated}
    pairs = zip(training.records, training.paths, strict=True)
    trained = {k: record.id for record, path in pairs if (k := key(record, path)) in asked}
    both = [(trained[each], name) for each, name in validated if each in trained]
    if both:
        first, second = both[0]
        raise InputError(
            f"{len(both):,} of {len(validation.records):,} validation rows are also trained on, such "
            f"as {second!r} (in training: {first!r})",
            "Validate on other rows; biod2c data split makes some.",
        )


def _check_lengths(dataset: VQADataset, model: BioD2CForConditionalGeneration) -> None:
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    for row, length in enumerate(dataset.lengths):
        needed = model.config.num_visual_tokens + length
        if limit is not None and needed > limit:
            raise InputError(
                f"record {dataset.records[row].id!r} takes {needed} tokens with its image, and the language "
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
    paths = sorted({path for dataset in datasets for path in dataset.images})
    reporter.encoding(len(paths))
    cache.fill(paths, reporter.encoded, workers, reporter.note)
    return cache
