"""The records of a run as data sets, and the trunk's features of their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from biod2c_core.config import StageSettings
from biod2c_core.data.formats import image_root, read_records
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
    """The rows of a split, all usable: every row has an answer, an image, and fits the model.

    Rows without an answer (SLAKE publishes one) are left out, and ``note`` is told.

    Raises:
        InputError: An image is missing, a row is too long, or no row has an answer.
    """
    records: list[Record] = []
    paths: list[Path] = []
    unanswered: list[str] = []
    for source in sources:
        root = image_root(source)
        for record in read_records(source):
            if split and record.split not in ("", split):
                continue
            if record.answer:
                records.append(record)
                paths.append(root)
            else:
                unanswered.append(record.id)
    if not records:
        reason = f"record {unanswered[0]!r} has no answer" if unanswered else "no training records"
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
) -> FeatureCache | None:
    """The frozen trunk's features of all images, computed where they are not on disk yet."""
    if not settings.cache_features:
        return None
    cache = FeatureCache(default_cache_folder(), model.vision, processor)
    paths = sorted({path for dataset in datasets for path in dataset.paths})
    reporter.encoding(len(paths))
    cache.fill(paths, reporter.encoded)
    return cache
