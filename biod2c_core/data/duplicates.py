"""Find images that look the same: saved again, rescaled, brightened, in another file format.

Two steps. A 64-bit perceptual hash (signs of the lowest frequencies of the cosine transform) finds
candidates among all pairs; the correlation of small thumbnails confirms them, because scans of one
body part share their lowest frequencies. Pairs are compared by matrix products: with signs +1 and -1,
the number of differing bits is (64 - dot product) / 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

HASH_SIDE = 8
HASH_INPUT = 32
THUMBNAIL = 24
MAX_DIFFERING_BITS = 8
MIN_CORRELATION = 0.985
_BLOCK_CELLS = 1 << 24


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image.

    Attributes:
        signs: int8 (64,), +1 or -1.
        thumbnail: float16 (THUMBNAIL**2,), mean 0 and length 1; all 0 for an image of one shade.
        shade: Mean grey of the image, which tells images of one shade apart.
    """

    signs: np.ndarray
    thumbnail: np.ndarray
    shade: float


def fingerprint(picture: Image.Image) -> Fingerprint:
    """Reduce an image to what survives resaving and rescaling."""
    grey = picture.convert("L")
    small = np.asarray(_resized(grey, HASH_INPUT), np.float32)
    low = (_cosines() @ small @ _cosines().T).ravel()
    low[0] = 0  # the mean, kept apart as the shade
    thumbnail = np.asarray(_resized(grey, THUMBNAIL), np.float32).ravel()
    shade = float(thumbnail.mean())
    thumbnail = thumbnail - thumbnail.mean()
    length = float(np.linalg.norm(thumbnail))
    flat = length < THUMBNAIL  # under one grey level of contrast
    return Fingerprint(
        np.where(low > np.median(low), 1, -1).astype(np.int8),
        (thumbnail * 0 if flat else thumbnail / length).astype(np.float16),
        shade,
    )


def _resized(grey: Image.Image, side: int) -> Image.Image:
    return grey.resize((side, side), Image.Resampling.BOX)


def _cosines() -> np.ndarray:
    """The first rows of the type II cosine transform, (HASH_SIDE, HASH_INPUT)."""
    places = np.pi * (2 * np.arange(HASH_INPUT) + 1) / (2 * HASH_INPUT)
    return np.cos(np.arange(HASH_SIDE)[:, None] * places).astype(np.float32)


def find_duplicates(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Group the images that look the same.

    Returns:
        Groups of two or more indices, each ascending, ordered by their first. An image belongs to
        a group if it looks like any member.
    """
    if not prints:
        return []
    signs = np.stack([each.signs for each in prints]).astype(np.float32)
    thumbnails = np.stack([each.thumbnail for each in prints])
    shades = np.array([each.shade for each in prints], np.float32)
    parent = list(range(len(prints)))
    block = max(1, _BLOCK_CELLS // len(prints))
    for start in range(0, len(prints), block):
        dots = signs[start : start + block] @ signs[start:].T
        first, second = np.nonzero(dots >= HASH_SIDE**2 - 2 * MAX_DIFFERING_BITS)
        later = second > first
        _join(parent, first[later] + start, second[later] + start, thumbnails, shades)
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(prints)):
        groups[_root(parent, index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _join(
    parent: list[int],
    first: np.ndarray,
    second: np.ndarray,
    thumbnails: np.ndarray,
    shades: np.ndarray,
) -> None:
    """Confirm candidate pairs and unite their groups."""
    step = _BLOCK_CELLS // THUMBNAIL**2
    for at in range(0, len(first), step):
        left, right = first[at : at + step], second[at : at + step]
        pair = thumbnails[left].astype(np.float32), thumbnails[right].astype(np.float32)
        alike = np.einsum("pc,pc->p", *pair) >= MIN_CORRELATION
        flat = ~pair[0].any(1) & ~pair[1].any(1)
        alike |= flat & (np.abs(shades[left] - shades[right]) < 1)
        for one, other in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
            parent[_root(parent, other)] = _root(parent, one)


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index
