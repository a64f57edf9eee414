"""Features on disk, so that fitting again, or after a kill, computes only what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from biod2c_core.append_log import AppendLog
from biod2c_core.atomic import make_folder
from biod2c_core.curation.filter_images.classifier import LAYOUT_VERSION, feature_width
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.scoring import compute_features
from biod2c_core.curation.filter_images.sources import Item


class FeatureStore:
    """Rows of features, and an index that is appended to only after its rows are on disk.

    Args:
        folder: Where the two files live.
        encoder: Rows of another encoder are kept apart.
    """

    def __init__(self, folder: Path, encoder: ImageEncoder) -> None:
        make_folder(folder)
        stem = f"{encoder.identity}-{LAYOUT_VERSION}"
        self.encoder = encoder
        self.width = feature_width(encoder.width)
        self._rows, self._index = folder / f"{stem}.f32", folder / f"{stem}.jsonl"

    def compute(
        self, items: Sequence[Item], workers: int, advance: Callable[[int], None]
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Features of images that are whole files.

        Args:
            items: Which.
            workers: Processes that decode.
            advance: Called with the number of images done.

        Returns:
            (N, width) float32, NaN where an image cannot be read; and by name why it cannot.
        """
        keys = [_key(item) for item in items]
        problems: dict[str, str] = {}
        with AppendLog(self._index) as index:
            known = self._load(index)
            missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
            advance(len(items) - len(missing))
            order = iter(missing)
            for batch, features in compute_features(missing.values(), self.encoder, workers):
                named = zip(batch, islice(order, len(batch)), strict=True)
                readable = [key for image, key in named if image.pixels is not None]
                problems |= {i.item.name: i.problem for i in batch if i.pixels is None}
                with self._rows.open("ab") as rows:
                    rows.write(features.tobytes())
                index.append(readable)
                known |= zip(readable, features, strict=True)
                advance(len(batch))
        nothing = np.full(self.width, np.nan, np.float32)
        return np.stack([known.get(key, nothing) for key in keys]), problems

    def _load(self, index: AppendLog) -> dict[str, np.ndarray]:
        """What is on disk; files that a kill has left uneven are cut to what both have."""
        self._rows.touch()
        keys = [key for _, key in index.rows()]
        size = self.width * 4
        count = min(len(keys), self._rows.stat().st_size // size)
        with self._rows.open("r+b") as file:
            file.truncate(count * size)
        index.keep(count)
        rows = np.fromfile(self._rows, np.float32).reshape(count, self.width)
        return dict(zip(keys[:count], rows, strict=True))


def _key(item: Item) -> str:
    """Changes with the file."""
    try:
        status = Path(item.path).stat()
    except OSError:
        return item.path
    return f"{Path(item.path).absolute()} {status.st_size} {status.st_mtime_ns}"
