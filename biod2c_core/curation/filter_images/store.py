"""Features on disk, so that fitting again, or after a kill, computes only what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

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
        folder.mkdir(parents=True, exist_ok=True)
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
        known = self._load()
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        advance(len(items) - len(missing))
        problems: dict[str, str] = {}
        order = iter(missing)
        with self._rows.open("ab") as rows, self._index.open("a", encoding="utf-8") as index:
            for batch, features in compute_features(missing.values(), self.encoder, workers):
                values = iter(features)
                for image in batch:
                    key = next(order)
                    if image.pixels is None:
                        problems[image.item.name] = image.problem
                        continue
                    known[key] = next(values)
                    rows.write(known[key].tobytes())
                    rows.flush()
                    index.write(json.dumps(key) + "\n")
                index.flush()
                advance(len(batch))
        nothing = np.full(self.width, np.nan, np.float32)
        return np.stack([known.get(key, nothing) for key in keys]), problems

    def _load(self) -> dict[str, np.ndarray]:
        """What is on disk; files that a kill has left uneven are cut to what both have."""
        self._rows.touch()
        self._index.touch()
        data = self._index.read_bytes()
        keys = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        size = self.width * 4
        count = min(len(keys), self._rows.stat().st_size // size)
        with self._rows.open("r+b") as file:
            file.truncate(count * size)
        self._index.write_text("".join(json.dumps(key) + "\n" for key in keys[:count]), "utf-8")
        rows = np.fromfile(self._rows, np.float32).reshape(count, self.width)
        return dict(zip(keys[:count], rows, strict=True))


def _key(item: Item) -> str:
    """Changes with the file."""
    try:
        status = Path(item.path).stat()
    except OSError:
        return item.path
    return f"{Path(item.path).absolute()} {status.st_size} {status.st_mtime_ns}"
