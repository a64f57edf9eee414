"""Images to features, and features to rows of an output that a kill cannot spoil."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from biod2c_core.curation.filter_images.classifier import ImageFilter, join_features
from biod2c_core.curation.filter_images.decode import Prepared, batched, prepare_all
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.sources import Item
from biod2c_core.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs into one output are not told apart
    fcntl = None  # type: ignore[assignment]

BATCH = 16


@dataclass(frozen=True)
class Score:
    """What is known of one image.

    Attributes:
        image: Its name.
        polluted: Probability of being polluted; None where it cannot be read.
        error: Why not.
    """

    image: str
    polluted: float | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """A row of the output."""
        if self.polluted is None:
            return {"image": self.image, "error": self.error}
        return {"image": self.image, "polluted": self.polluted}


# Scores all images, some at a time, in any order. A batch never depends on the engine, so that all of
# them give the same output.
Engine = Callable[[Sequence[Item], ImageEncoder, ImageFilter], Iterable[list[Score]]]


def compute_features(
    items: Iterable[Item], encoder: ImageEncoder, workers: int
) -> Iterator[tuple[list[Prepared], np.ndarray]]:
    """Decode and encode images in order, :data:`BATCH` at a time.

    Yields:
        Up to BATCH images, and features (K, width) of the K among them that can be read.
    """
    for batch in batched(prepare_all(items, encoder.side, workers), BATCH):
        yield batch, _encode(batch, encoder)


def _encode(batch: Iterable[Prepared], encoder: ImageEncoder) -> np.ndarray:
    pixels = [image.pixels for image in batch if image.pixels is not None]
    layouts = [image.layout for image in batch if image.layout is not None]
    if not pixels:
        return np.empty((0, 0), np.float32)
    return join_features(encoder(np.stack(pixels)), layouts)


def score_batch(
    batch: Sequence[Prepared], encoder: ImageEncoder, image_filter: ImageFilter
) -> list[Score]:
    """Scores of decoded images, in their order."""
    features = _encode(batch, encoder)
    values = iter(image_filter.probabilities(features) if len(features) else ())
    return [
        Score(image.item.name, error=image.problem)
        if image.pixels is None
        else Score(image.item.name, round(float(next(values)), 4))
        for image in batch
    ]


def score_images(
    items: Iterable[Item], encoder: ImageEncoder, image_filter: ImageFilter, workers: int = 0
) -> Iterator[list[Score]]:
    """Scores in the order of the images, a batch at a time."""
    for batch in batched(prepare_all(items, encoder.side, workers), BATCH):
        yield score_batch(batch, encoder, image_filter)


class ScoreLog:
    """Rows that a run has finished; opening it repairs a row cut off by a kill, and locks it.

    Args:
        path: The file; created where missing.

    Raises:
        InputError: Another run has it open, or it holds other things.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("a+b")
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    remedy = "Wait for it, or give another output."
                    raise InputError(f"{path} is in use by another run", remedy) from error
            self.scores = self._load(path)
        except BaseException:
            self._file.close()
            raise

    def _load(self, path: Path) -> dict[str, Score]:
        self._file.seek(0)
        data = self._file.read()
        complete = data.rfind(b"\n") + 1
        self._file.truncate(complete)
        return {score.image: score for score in parse_scores(data[:complete], path)}

    def __enter__(self) -> ScoreLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, scores: Iterable[Score]) -> None:
        """Write rows, then count them."""
        scores = list(scores)
        self._file.write(b"".join(to_line(score.to_json()) for score in scores))
        self._file.flush()
        self.scores |= {score.image: score for score in scores}

    def sync(self) -> None:
        """Make the rows durable."""
        os.fsync(self._file.fileno())


def to_line(row: Any) -> bytes:
    """A row as a line of JSON; bytes of a file name that are no UTF-8 stay what they are."""
    try:
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
    except UnicodeEncodeError:  # half a character, which only an escape can write
        return json.dumps(row).encode() + b"\n"


def to_bytes(text: str) -> bytes:
    """A text with a file name in it as bytes; equal only for equal texts."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def parse_scores(data: bytes, path: Path) -> Iterator[Score]:
    """Rows of an output of this module.

    Raises:
        InputError: It is something else.
    """
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            row = json.loads(line.decode("utf-8", "surrogateescape"))
            value = row.get("polluted")
            yield Score(row["image"], None if value is None else float(value), row.get("error", ""))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path}:{number}: not a row of an image filter's output",
                "Give an output of its own.",
            ) from error
