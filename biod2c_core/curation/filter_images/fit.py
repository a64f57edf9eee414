"""``filter-images fit``: train the head, and say how good it is on images it was not trained on."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from biod2c_core.atomic import FILE_NAMES, atomic_open, write_json
from biod2c_core.curation.filter_images.classifier import ImageFilter, train_head
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.labels import (
    CLEAN,
    POLLUTED,
    TEST,
    UNSURE,
    Labelled,
)
from biod2c_core.curation.filter_images.quality import Quality, draw_mistakes, measure_quality
from biod2c_core.curation.filter_images.sources import Item
from biod2c_core.curation.filter_images.store import FeatureStore
from biod2c_core.errors import InputError
from biod2c_core.foreign import escape_formula

FOLDS = 5  # where no sources are given
REPORT, PREDICTIONS, MISTAKES = "report.json", "predictions.csv", "mistakes.png"


@dataclass(frozen=True)
class Fold:
    """One training without some of the images, judged on these.

    Attributes:
        held_out: The sources left out, or the number of the part.
        quality: On the images left out.
    """

    held_out: str
    quality: Quality


@dataclass(frozen=True)
class FitReport:
    """How good the classifier is.

    Attributes:
        clean: Clean images trained on.
        polluted: Polluted images trained on.
        unreadable: Images left out because they cannot be read.
        by_source: Whether whole sources were held out.
        held_out: All held-out images together, each judged by a classifier that never saw its
            sources.
        folds: One by one.
        test: The trained classifier on the rows of split ``test``, or None.
        mistakes: Wrong ones among held-out and test images.
    """

    clean: int
    polluted: int
    unreadable: int
    by_source: bool
    held_out: Quality
    folds: tuple[Fold, ...]
    test: Quality | None
    mistakes: int

    def to_json(self) -> dict[str, Any]:
        """For ``report.json``."""
        folds = [{"held_out": f.held_out, **f.quality.to_dict()} for f in self.folds]
        return {
            **vars(self),
            "held_out": self.held_out.to_dict(),
            "folds": folds,
            "test": self.test.to_dict() if self.test else None,
        }


def fit_filter(
    labels: Sequence[Labelled],
    output: Path,
    encoder: ImageEncoder,
    *,
    threshold: float = 0.5,
    workers: int = 0,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> FitReport:
    """Train on labelled images and write the classifier with its report.

    With sources, every source is left out once, a clean and a polluted one at a time; figures made
    from a left-out source are neither trained on, nor judged if another of their sources was seen.
    Without, five random parts are left out in turn. The classifier that is written is trained on
    everything but the split ``test``.

    Args:
        labels: As :func:`.labels.read_labels` gives them; unsure ones are ignored.
        output: The folder to write: the head, ``report.json``, ``predictions.csv`` and
            ``mistakes.png``; features are kept in ``features/``.
        encoder: The frozen encoder.
        threshold: From this probability on an image is called polluted.
        workers: Processes that decode images.
        seed: Of the training.
        advance: Called with the number of images encoded.

    Raises:
        InputError: Too few images can be read.
    """
    data, unreadable = _load(labels, FeatureStore(output / "features", encoder), workers, advance)
    folds, probabilities = _cross_validate(data, threshold, seed)
    train, test = data.train, ~data.train
    head = train_head(data.features[train], data.polluted[train], seed=seed)
    final = ImageFilter(head, encoder.identity)
    if test.any():
        probabilities[test] = final.probabilities(data.features[test])
    known = ~np.isnan(probabilities)

    def quality(chosen: np.ndarray) -> Quality:
        return measure_quality(probabilities[chosen], data.polluted[chosen], threshold)

    report = FitReport(
        clean=int((train & ~data.polluted).sum()),
        polluted=int((train & data.polluted).sum()),
        unreadable=unreadable,
        by_source=any(row.sources for row in data.rows),
        held_out=quality(known & train),
        folds=tuple(folds),
        test=quality(test) if test.any() else None,
        mistakes=draw_mistakes(
            output / MISTAKES,
            [Item(row.name, str(row.path)) for row in compress(data.rows, known)],
            probabilities[known],
            data.polluted[known],
            threshold,
        ),
    )
    final.about = {"clean": report.clean, "polluted": report.polluted, "seed": seed}
    _write_predictions(output / PREDICTIONS, data.rows, probabilities)
    write_json(output / REPORT, report.to_json())
    final.save(output)
    return report


@dataclass(frozen=True)
class _Data:
    """The images that can be read: features (N, width), and (N,) bool each."""

    rows: list[Labelled]
    features: np.ndarray
    polluted: np.ndarray
    train: np.ndarray


def _load(
    labels: Sequence[Labelled], store: FeatureStore, workers: int, advance: Callable[[int], None]
) -> tuple[_Data, int]:
    """Everything there is to train on, and how many images are left out."""
    rows = [row for row in labels if row.label != UNSURE]
    items = [Item(row.name, str(row.path)) for row in rows]
    features, problems = store.compute(items, workers, advance)
    readable = ~np.isnan(features[:, 0])
    rows = list(compress(rows, readable))
    polluted = np.array([row.label == POLLUTED for row in rows], bool)
    train = np.array([row.split != TEST for row in rows], bool)
    if min((polluted & train).sum(), (~polluted & train).sum()) < FOLDS:
        first = next(iter(problems.values()), "")
        raise InputError(f"too few images of one label can be read ({first})", "Check the paths.")
    return _Data(rows, features[readable], polluted, train), len(problems)


def _cross_validate(data: _Data, threshold: float, seed: int) -> tuple[list[Fold], np.ndarray]:
    """Train without each part, one after the other.

    Returns:
        The folds, and for each image the probability given by the first head that was trained
        without it, NaN where there is none.
    """
    probabilities = np.full(len(data.rows), np.nan)
    folds = []
    parts = list(_by_source(data.rows, data.train))
    for name, seen, judged in parts or _by_chance(data.polluted, data.train, seed):
        head = train_head(data.features[seen], data.polluted[seen], seed=seed)
        found = ImageFilter(head, "").probabilities(data.features[judged])
        folds.append(Fold(name, measure_quality(found, data.polluted[judged], threshold)))
        first = np.isnan(probabilities[judged])
        probabilities[np.flatnonzero(judged)[first]] = found[first]
    return folds, probabilities


def _by_source(
    rows: Sequence[Labelled], train: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, rows to train on and rows to judge, for pairs of a clean and a polluted source.

    Images of a label that has one source only would leave nothing to train on; then that source
    stays. Nothing is yielded where neither label has two sources.
    """
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for row, use in zip(rows, train, strict=True):
        if use and len(row.sources) == 1:
            labels[next(iter(row.sources))][row.label] += 1
    # Most images of a source decide what it is: many-panel figures of a clean folder are polluted.
    clean = sorted(name for name, count in labels.items() if count[CLEAN] >= count[POLLUTED])
    dirty = sorted(name for name, count in labels.items() if count[CLEAN] < count[POLLUTED])
    clean = clean if len(clean) > 1 else []
    dirty = dirty if len(dirty) > 1 else []
    for index in range(max(len(clean), len(dirty))):
        pair = {group[index % len(group)] for group in (clean, dirty) if group}
        seen = np.array([not row.sources & pair for row in rows], bool) & train
        judged = np.array([bool(row.sources) and row.sources <= pair for row in rows]) & train
        yield "+".join(sorted(pair)), seen, judged


def _by_chance(
    polluted: np.ndarray, train: np.ndarray, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Five parts with the same share of polluted images."""
    part = np.full(len(train), -1)
    order = np.random.default_rng(seed).permutation(len(train))
    for label in (False, True):
        chosen = order[(train & (polluted == label))[order]]
        part[chosen] = np.arange(len(chosen)) % FOLDS
    for index in range(FOLDS):
        judged = part == index
        yield f"part {index + 1} of {FOLDS}", train & ~judged, judged


def _write_predictions(path: Path, rows: Sequence[Labelled], probabilities: np.ndarray) -> None:
    with atomic_open(path, errors=FILE_NAMES) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "label", "source", "split", "polluted"))
        for row, value in zip(rows, probabilities, strict=True):
            source = "+".join(sorted(row.sources))
            shown = "" if np.isnan(value) else f"{value:.4f}"
            words = (row.name, row.label, source, row.split)
            writer.writerow((*map(escape_formula, words), shown))
