"""Grid features of the frozen trunk, computed once for each image and kept on disk.

Allowed because the trunk never changes and no augmentation is applied: the same file gives the same
X_v at every step. The index is appended only after the row is on disk, so that a kill at any moment
costs at most the rows under way.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
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
from biod2c_core.contents import ChecksumLog, cache_folder
from biod2c_core.data.images import check_image_file
from biod2c_core.data.read_ahead import read_ahead
from biod2c_core.errors import InputError
from biod2c_core.foreign import real_path
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.model.vision import VisionTower, grid_shape
from biod2c_core.training.inputs.collate import read_pictures

_BATCH = 16
_GIB = 2**30
_FILES = {"float16": "rows.f16", "bfloat16": "rows.bf16", "float8": "rows.f8"}
_TYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8": torch.float8_e4m3fn,
}
_SCALE_BYTES = 4  # in front of a row of float8: the power of two that its numbers are multiplied by


def default_cache_folder() -> Path:
    """The folder ``features`` of :func:`~biod2c_core.contents.cache_folder`."""
    return cache_folder() / "features"


def free_space(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    there = next(each for each in (folder, *real_path(folder).parents) if each.is_dir())
    return shutil.disk_usage(there).free


def row_bytes(shape: tuple[int, int, int], kind: str) -> int:
    """Bytes on disk of one X_v of this shape, kept as ``feature_type`` says."""
    return math.prod(shape) * _TYPES[kind].itemsize + (_SCALE_BYTES if kind == "float8" else 0)


def pack(features: Tensor, kind: str) -> Tensor:
    """X_v as it is kept on disk.

    Args:
        features: (B, N, N, D); numbers beyond the type's range become its largest.
        kind: ``float16``, ``bfloat16`` or ``float8``.

    Returns:
        (B, :func:`row_bytes`), uint8.
    """
    rows, limit = features.float().flatten(1), torch.finfo(_TYPES[kind]).max
    if kind != "float8":
        return rows.clamp(-limit, limit).to(_TYPES[kind]).view(torch.uint8)
    largest = torch.finfo(torch.bfloat16).max
    rows = rows.clamp(-largest, largest)
    exponent = torch.frexp(rows.abs().amax(1, keepdim=True) / limit).exponent
    # a power of two: multiplying bfloat16 by it is exact, so that nothing is rounded twice
    scale = torch.ldexp(torch.ones(len(rows), 1), exponent.cpu())
    packed = (rows / scale.to(rows.device)).clamp(-limit, limit).to(_TYPES[kind])
    return torch.cat([scale.view(torch.uint8), packed.view(torch.uint8).cpu()], dim=1)


def unpack(row: Tensor, kind: str) -> Tensor:
    """A row of :func:`pack`, flat, in float16 or else in bfloat16."""
    if kind != "float8":
        return row.view(_TYPES[kind])
    scale = row[:_SCALE_BYTES].view(torch.float32)
    return row[_SCALE_BYTES:].view(_TYPES[kind]).to(torch.bfloat16) * scale.to(torch.bfloat16)


class FeatureCache:
    """X_v by image file.

    Args:
        folder: Where caches live; each trunk, image setting and type has its own folder inside.
        tower: The frozen vision tower.
        processor: Gives the pixels.
        kind: How rows are kept: ``float16``, ``bfloat16`` or ``float8``.
    """

    def __init__(
        self,
        folder: Path,
        tower: VisionTower,
        processor: BioD2CProcessor,
        kind: str = "float16",
    ) -> None:
        tower.accept_bytes(processor.image_mean, processor.image_std)
        self.tower = tower
        self.processor = processor
        self.shape = grid_shape(tower)
        self.kind = kind
        name = _key(tower, processor)
        self.folder = folder / (name if kind == "float16" else f"{name}-{kind}")
        make_folder(self.folder)
        self._data = self.folder / _FILES[kind]
        self._index_file = self.folder / "index.jsonl"
        self._checksums = folder / "checksums.jsonl"  # of pictures: whatever trunk and type
        self._row_bytes = row_bytes(self.shape, kind)
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

    def fill(
        self,
        paths: Iterable[Path],
        advance: Callable[[int], None],
        workers: int = 0,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Compute what is missing; of several processes the first one does, and the others wait.

        Args:
            paths: Image files; several names may hold the same picture.
            advance: Called with the number of files dealt with.
            workers: Processes that read images ahead.
            note: Told the space that is needed, before anything is computed.

        Raises:
            ImageError: A file is not a usable image.
            InputError: There is no room on the disk, or a process that reads images died.
        """
        with AppendLog(self._index_file, wait=True) as index:
            self._read_index(index)
            missing = self._missing(paths, advance)
            if missing:
                note(self._check_room(len(missing)))
            self._add(missing, index, advance, workers)
        count = self._data.stat().st_size // self._row_bytes
        if count:
            self._map = np.memmap(self._data, np.uint8, "r", shape=(count, self._row_bytes))

    def _check_room(self, count: int) -> str:
        """What so many rows take and what is free, if there is room."""
        needed, free = count * self._row_bytes, free_space(self.folder)
        rows = f"features of {count:,} image{'s' * (count != 1)} in {self.kind}"
        if needed > free:
            raise InputError(
                f"{rows} need {needed / _GIB:,.2f} GiB, and {self.folder.parent} has "
                f"{free / _GIB:,.2f} GiB free",
                "Set BIOD2C_CACHE to a folder on a larger disk, "
                + ("" if self.kind == "float8" else "keep them in half with feature_type=float8, ")
                + "or train with cache_features=false.",
            )
        return f"{rows}: {needed / _GIB:,.2f} GiB in {self.folder.parent} ({free / _GIB:,.2f} free)"

    def _missing(
        self, paths: Iterable[Path], advance: Callable[[int], None]
    ) -> list[tuple[str, Path]]:
        """Digests and files of the pictures that have no row yet, each once."""
        missing: dict[str, Path] = {}
        with AppendLog(self._checksums, wait=True) as log:
            checksum = ChecksumLog(log)
            for path in paths:
                digest = checksum(check_image_file(path))[:32]
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
        packed = pack(features, self.kind).cpu().contiguous()
        start = rows.tell() // self._row_bytes
        rows.write(packed.numpy().tobytes())
        rows.flush()
        added = {digest: start + offset for offset, digest in enumerate(digests)}
        index.append(added.items())
        self._rows |= added

    def __call__(self, path: Path) -> Tensor:
        """X_v of an image that :meth:`fill` has seen, (N, N, D), float16 or else bfloat16."""
        assert self._map is not None, "fill() comes first"
        row = torch.from_numpy(np.array(self._map[self._rows[self._digests[path]]]))
        return unpack(row, self.kind).view(self.shape)


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
