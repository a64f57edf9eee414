"""Images to features, and features to rows of an output that a kill cannot spoil."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from biod2c_core.append_log import AppendLog, read_rows
from biod2c_core.curation.filter_images.classifier import ImageFilter, join_features
from biod2c_core.curation.filter_images.decode import PreparedImage, batched, prepare_images
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.sources import Item
from biod2c_core.errors import InputError

BATCH = 16


@dataclass(frozen=True)
class Score:
    """What is known of one image.

    Attributes:
        image: Its name.
        polluted: Probability of being polluted; None where it cannot be read.
        error: Why not.
        checksum: Of the bytes that were scored, see :func:`.sources.picture_checksum`.
    """

    image: str
    polluted: float | None = None
    error: str = ""
    checksum: str = ""

    def to_row(self) -> dict[str, Any]:
        """A row of the output."""
        found = {"error": self.error} if self.polluted is None else {"polluted": self.polluted}
        known = {"checksum": self.checksum} if self.checksum else {}
        return {"image": self.image, **found, **known}


# Scores all images, some at a time, in any order. A batch never depends on the engine, so that all of
# them give the same output.
Engine = Callable[[Sequence[Item], ImageEncoder, ImageFilter], Iterable[list[Score]]]


def compute_features(
    items: Iterable[Item], encoder: ImageEncoder, workers: int
) -> Iterator[tuple[list[PreparedImage], np.ndarray]]:
    """Decode and encode images in order, :data:`BATCH` at a time.

    Yields:
        Up to BATCH images, and features (K, width) of the K among them that can be read.
    """
    for batch in batched(prepare_images(items, encoder.side, workers), BATCH):
        yield batch, _encode(batch, encoder)


def _encode(batch: Iterable[PreparedImage], encoder: ImageEncoder) -> np.ndarray:
    pixels = [image.pixels for image in batch if image.pixels is not None]
    layouts = [image.layout for image in batch if image.layout is not None]
    if not pixels:
        return np.empty((0, 0), np.float32)
    return join_features(encoder(np.stack(pixels)), layouts)


def score_batch(
    batch: Sequence[PreparedImage], encoder: ImageEncoder, image_filter: ImageFilter
) -> list[Score]:
    """Scores of decoded images, in their order."""
    features = _encode(batch, encoder)
    values = iter(image_filter.probabilities(features) if len(features) else ())
    return [
        Score(image.item.name, error=image.problem, checksum=image.checksum)
        if image.pixels is None
        else Score(image.item.name, round(float(next(values)), 4), checksum=image.checksum)
        for image in batch
    ]


def score_images(
    items: Iterable[Item], encoder: ImageEncoder, image_filter: ImageFilter, workers: int = 0
) -> Iterator[list[Score]]:
    """Scores in the order of the images, a batch at a time."""
    for batch in batched(prepare_images(items, encoder.side, workers), BATCH):
        yield score_batch(batch, encoder, image_filter)


class ScoreLog:
    """Rows that a run has finished.

    Args:
        path: The file; created where missing.

    Raises:
        InputError: Another run has it open, or it holds other things.
    """

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)
        try:
            self.scores = {score.image: score for score in read_scores(path)}
        except BaseException:
            self._log.close()
            raise

    def __enter__(self) -> ScoreLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.close()

    def add(self, scores: Iterable[Score]) -> None:
        """Write rows, then count them."""
        scores = list(scores)
        self._log.append(score.to_row() for score in scores)
        self.scores |= {score.image: score for score in scores}

    def sync(self) -> None:
        """Make the rows durable."""
        self._log.sync()


def read_scores(path: Path) -> Iterator[Score]:
    """Rows of an output of this module; one that was cut off is left out.

    Raises:
        InputError: It is something else.
    """
    for number, row in read_rows(path):
        try:
            value, error = row.get("polluted"), row.get("error", "")
            polluted = None if value is None else float(value)
            yield Score(row["image"], polluted, error, row.get("checksum", ""))
        except (ValueError, TypeError, KeyError, AttributeError) as cause:
            raise InputError(
                f"{path}:{number}: not a row of an image filter's output",
                "Give an output of its own.",
            ) from cause
