"""Grid features of the frozen trunk, computed once for each image and kept on disk.

Allowed because the trunk never changes and no augmentation is applied: the same file gives the same
X_v at every step. Rows are float16; the index is appended only after the row is on disk, so that a
kill at any moment costs at most the rows under way.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from biod2c_core.append_log import AppendLog
from biod2c_core.atomic import make_folder
from biod2c_core.contents import cache_folder, file_checksum
from biod2c_core.data.images import check_image_file
from biod2c_core.data.read_ahead import read_ahead
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.model.vision import VisionTower, grid_shape
from biod2c_core.training.inputs.collate import read_pictures

_BATCH = 16


def default_cache_folder() -> Path:
    """The folder ``features`` of :func:`~biod2c_core.contents.cache_folder`."""
    return cache_folder() / "features"


class FeatureCache:
    """X_v by image file.

    Args:
        folder: Where caches live; each trunk and image setting has its own folder inside.
        tower: The frozen vision tower.
        processor: Gives the pixels.
    """

    def __init__(self, folder: Path, tower: VisionTower, processor: BioD2CProcessor) -> None:
        tower.accept_bytes(processor.image_mean, processor.image_std)
        self.tower = tower
        self.processor = processor
        self.shape = grid_shape(tower)
        self.folder = folder / _key(tower, processor)
        make_folder(self.folder)
        self._data = self.folder / "rows.f16"
        self._index_file = self.folder / "index.jsonl"
        self._rows: dict[str, int] = {}
        self._digests: dict[Path, str] = {}
        self._map: np.memmap | None = None

    def _read_index(self, index: AppendLog) -> None:
        """Know the rows that are there; drop index lines, all at the end, that name no whole row."""
        self._data.touch()
        complete = self._data.stat().st_size // self._row_bytes
        known = takewhile(lambda entry: entry[1] < complete, (entry for _, entry in index.rows()))
        self._rows = dict(known)
        index.keep(len(self._rows))

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape)) * 2

    def fill(self, paths: Iterable[Path], advance: Callable[[int], None], workers: int = 0) -> None:
        """Compute what is missing.

        Args:
            paths: Image files; several names may hold the same picture.
            advance: Called with the number of files dealt with.
            workers: Processes that read images ahead.

        Raises:
            ImageError: A file is not a usable image.
            InputError: A process that reads images died.
        """
        with AppendLog(self._index_file, wait=True) as index:
            self._read_index(index)
            self._add(self._missing(paths, advance), index, advance, workers)
        count = self._data.stat().st_size // self._row_bytes
        if count:
            self._map = np.memmap(self._data, np.float16, "r", shape=(count, *self.shape))

    def _missing(
        self, paths: Iterable[Path], advance: Callable[[int], None]
    ) -> list[tuple[str, Path]]:
        """Digests and files of the pictures that have no row yet, each once."""
        missing: dict[str, Path] = {}
        for path in paths:
            digest = file_checksum(check_image_file(path))[:32]
            self._digests[path] = digest
            if digest in self._rows or digest in missing:
                advance(1)
            else:
                missing[digest] = path
        return list(missing.items())

    def _add(
        self,
        missing: list[tuple[str, Path]],
        index: AppendLog,
        advance: Callable[[int], None],
        workers: int,
    ) -> None:
        parts = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
        read = partial(read_pictures, side=self.processor.image_size)
        files = [[path for _, path in part] for part in parts]
        with self._data.open("ab") as rows:
            rows.truncate(rows.tell() // self._row_bytes * self._row_bytes)
            rows.seek(0, os.SEEK_END)
            for part, pictures in zip(parts, read_ahead(read, files, workers), strict=True):
                self._compute([digest for digest, _ in part], pictures, rows, index)
                advance(len(part))

    def _compute(
        self, digests: list[str], pictures: Tensor, rows: IO[bytes], index: AppendLog
    ) -> None:
        features = self.tower(pictures.to(next(self.tower.parameters()).device))
        limit = torch.finfo(torch.float16).max
        array = features.float().clamp(-limit, limit).half().cpu().contiguous().numpy()
        start = rows.tell() // self._row_bytes
        rows.write(array.tobytes())
        rows.flush()
        added = {digest: start + offset for offset, digest in enumerate(digests)}
        index.append(added.items())
        self._rows |= added

    def __call__(self, path: Path) -> Tensor:
        """X_v of an image that :meth:`fill` has seen, (N, N, D), float16."""
        assert self._map is not None, "fill() comes first"
        return torch.from_numpy(np.array(self._map[self._rows[self._digests[path]]]))


def _key(tower: VisionTower, processor: BioD2CProcessor) -> str:
    """A name that changes with the trunk's weights and with what is done to the pixels."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    settings = [
        tower.levels,
        tower.normalize,
        processor.image_size,
        processor.image_mean,
        processor.image_std,
    ]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:20]
