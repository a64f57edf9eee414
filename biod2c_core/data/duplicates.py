"""Find images that look the same: saved again, rescaled, brightened, in another file format.

Two images look the same if their 64-bit perceptual hashes (signs of the lowest frequencies of the
cosine transform) differ in few bits and their small thumbnails correlate, because scans of one body
part share their lowest frequencies. Not all pairs are compared, yet none is missed:

- Equal fingerprints are one.
- Hashes of three parts that differ in 8 bits differ in at most 2 bits of some part, so a table of the
  parts finds the candidates of one hash, where hashes are as varied as those of different scenes are.
- Where they are not, the images are divided along a principal component of their thumbnails. Alike ones
  are near in every direction, so the two halves overlap only by that distance.
- Small halves, and what cannot be divided, are compared by matrix products: with signs +1 and -1, the
  number of differing bits is (64 - dot product) / 2.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from PIL import Image

HASH_SIDE = 8
HASH_INPUT = 32
THUMBNAIL = 24
MAX_DIFFERING_BITS = 8
MIN_CORRELATION = 0.985
_BLOCK_CELLS = 1 << 24
_FEW = 4096  # images that are quicker compared with each other than searched
_PARTS = ((0, 22), (22, 21), (43, 21))  # of a hash: first bit, bits
_SAMPLE = 512
_COMPONENTS = 16
_MOST_OVERLAP = 0.3
_SLACK = 1e-3  # of a distance in float32, amply


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


@lru_cache
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
    numbers, different = _without_equals(prints)
    looks = _Looks(different)
    flat = looks.lengths == 0
    if flat.any():
        shades = looks.shades[:, None]
        _Search(looks, shades, 1 + _SLACK).run(np.flatnonzero(flat))
    if not flat.all():
        textured = np.flatnonzero(~flat)
        reach = max(0.0, 2 * float(looks.lengths.max()) - 2 * MIN_CORRELATION) ** 0.5
        _Search(looks, looks.components(textured), reach + _SLACK).run(textured)
    roots = looks.roots(np.arange(len(different)))
    # an image of unusual length may not even look like itself
    alike = flat | (looks.lengths >= MIN_CORRELATION) | (np.bincount(roots)[roots] > 1)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(numbers):
        groups[int(roots[number])].append(index)
    return [group for root, group in groups.items() if len(group) > 1 and alike[root]]


def _without_equals(prints: Sequence[Fingerprint]) -> tuple[list[int], list[Fingerprint]]:
    """The different fingerprints, and which of them each one is."""
    seen: dict[bytes, int] = {}
    numbers: list[int] = []
    different: list[Fingerprint] = []
    for each in prints:
        parts = (each.signs.tobytes(), each.thumbnail.tobytes(), struct.pack("d", each.shade))
        key = hashlib.blake2b(b"".join(parts), digest_size=16).digest()
        if key not in seen:
            seen[key] = len(different)
            different.append(each)
        numbers.append(seen[key])
    return numbers, different


class _Looks:
    """The fingerprints of N images as arrays, and which of them are known to look the same.

    Attributes:
        bits: uint64 (N,), the hashes.
        thumbnails: float16 (N, THUMBNAIL**2).
        lengths: float32 (N,), squared lengths of the thumbnails; 0 for an image of one shade.
        shades: float32 (N,).
        parent: (N,), another image of the same group, or the image itself.
    """

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        signs = np.stack([each.signs for each in prints])
        self.bits = np.packbits(signs > 0, axis=1).view(np.uint64).ravel()
        self.thumbnails = np.stack([each.thumbnail for each in prints])
        self.shades = np.array([each.shade for each in prints], np.float32)
        self.parent = np.arange(len(prints))
        self.lengths = np.concatenate(
            [np.einsum("nc,nc->n", *[block.astype(np.float32)] * 2) for block in self._blocks()]
        )

    def components(self, rows: np.ndarray) -> np.ndarray:
        """Principal components of all thumbnails, (N, up to 16), as the images of ``rows`` vary."""
        if len(rows) <= 4 * _SAMPLE:
            return np.zeros((len(self.bits), 1), np.float32)
        sample = self.thumbnails[rows[:: max(1, len(rows) // (4 * _SAMPLE))]].astype(np.float32)
        sample -= sample.mean(0)
        axes = np.linalg.eigh(sample.T @ sample)[1][:, -_COMPONENTS:]
        return np.concatenate([block.astype(np.float32) @ axes for block in self._blocks()])

    def _blocks(self) -> Iterator[np.ndarray]:
        step = max(1, _BLOCK_CELLS // self.thumbnails.shape[1] // 4)
        for start in range(0, len(self.thumbnails), step):
            yield self.thumbnails[start : start + step]

    def roots(self, rows: np.ndarray) -> np.ndarray:
        """The image that stands for the group of each."""
        roots = self.parent[rows]
        while not np.array_equal(above := self.parent[roots], roots):
            roots = above
        self.parent[rows] = roots
        return roots

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Unite the groups of pairs that look the same."""
        size = len(self.parent)
        pairs = np.unique(self.roots(first) * size + self.roots(second))
        for pair in pairs.tolist():
            one, other = (self._root(index) for index in divmod(pair, size))
            self.parent[max(one, other)] = min(one, other)

    def _root(self, index: int) -> int:
        while (above := int(self.parent[index])) != index:
            index = above
        return index


class _Search:
    """Finds all pairs that look the same, among images of one shade or among others.

    Args:
        looks: The images; groups are united there.
        places: (N, K) coordinates in which images that look the same are near.
        reach: How near.
    """

    def __init__(self, looks: _Looks, places: np.ndarray, reach: float) -> None:
        self.looks = looks
        self.places = places
        self.reach = reach

    def run(self, rows: np.ndarray) -> None:
        """Unite the groups of these images."""
        waiting = [rows]
        while waiting:
            rows = waiting.pop()
            if len(rows) <= _FEW:
                self._compare(rows)
                continue
            table = _HashTable(self.looks.bits[rows])
            candidates = table.candidates_of_one()
            if candidates > len(rows) / _SAMPLE and (halves := self._divide(rows)):
                waiting += halves
            elif candidates < len(rows) / 40:
                for first, second in table.candidates():
                    self._confirm(rows[first], rows[second])
            else:
                self._compare(rows)

    def _divide(self, rows: np.ndarray) -> list[np.ndarray]:
        """Two overlapping halves, in one of which each near pair is; none if they overlap much."""
        sample = self.places[rows[:: len(rows) // _SAMPLE]]
        cuts = np.quantile(sample, (0.3, 0.4, 0.5, 0.6, 0.7), axis=0)
        overlaps = (np.abs(sample - cuts[:, None]) <= self.reach / 2).mean(1)
        cut, axis = np.unravel_index(overlaps.argmin(), overlaps.shape)
        if overlaps[cut, axis] > _MOST_OVERLAP:
            return []
        above = self.places[rows, axis] - cuts[cut, axis]
        halves = [rows[above <= self.reach / 2], rows[above >= -self.reach / 2]]
        return halves if max(map(len, halves)) < 0.9 * len(rows) else []

    def _compare(self, rows: np.ndarray) -> None:
        """Compare all with all."""
        bits = self.looks.bits[rows].view(np.uint8).reshape(-1, 8)
        signs = np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1
        block = max(1, _BLOCK_CELLS // 16 // len(rows))
        for start in range(0, len(rows), block):
            dots = signs[start : start + block] @ signs[start:].T
            first, second = np.nonzero(dots >= HASH_SIDE**2 - 2 * MAX_DIFFERING_BITS)
            later = second > first
            self._confirm(rows[first[later] + start], rows[second[later] + start])

    def _confirm(self, first: np.ndarray, second: np.ndarray) -> None:
        """Unite the pairs with like hashes that look the same in full."""
        looks = self.looks
        step = _BLOCK_CELLS // THUMBNAIL**2
        for at in range(0, len(first), step):
            left, right = first[at : at + step], second[at : at + step]
            open_ = looks.roots(left) != looks.roots(right)
            left, right = left[open_], right[open_]
            apart = self.places[left] - self.places[right]
            near = np.einsum("pk,pk->p", apart, apart) <= self.reach**2
            left, right = left[near], right[near]
            thumbnails = looks.thumbnails[left], looks.thumbnails[right]
            pair = [each.astype(np.float32) for each in thumbnails]
            alike = np.einsum("pc,pc->p", *pair) >= MIN_CORRELATION
            flat = (looks.lengths[left] == 0) & (looks.lengths[right] == 0)
            alike |= flat & (np.abs(looks.shades[left] - looks.shades[right]) < 1)
            looks.join(left[alike], right[alike])


class _HashTable:
    """Finds the hashes that differ from one in at most 8 bits, by parts that differ in at most 2."""

    def __init__(self, bits: np.ndarray) -> None:
        self.bits = bits
        self.parts = []
        for start, width in _PARTS:
            values = (bits >> np.uint64(start)).astype(np.int64) & (1 << width) - 1
            order = np.argsort(values, kind="stable")
            held = np.zeros(1 << width, bool)
            held[values] = True
            self.parts.append((values, order, values[order], held, _near_zero(width)))

    def candidates_of_one(self) -> float:
        """How many a hash has on average, by a sample."""
        sample = np.arange(0, len(self.bits), max(1, len(self.bits) // _SAMPLE))
        total = sum(int(counts.sum()) for _, _, _, counts in self._hits(sample))
        return total / len(sample) - len(_PARTS)  # itself, by each part

    def candidates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of places in ``bits`` whose hashes are alike, the lower one first."""
        for start in range(0, len(self.bits), 2048):
            rows = np.arange(start, min(start + 2048, len(self.bits)))
            for order, hits, begins, counts in self._hits(rows):
                ends = counts.cumsum()
                cuts = np.searchsorted(ends, np.arange(0, ends[-1], _BLOCK_CELLS // 16))
                for some in np.split(np.arange(len(hits)), cuts[1:]):
                    yield self._pairs(order, hits[some], begins[some], counts[some])

    def _pairs(
        self, order: np.ndarray, hits: np.ndarray, begins: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        first, second = np.repeat(hits, counts), order[np.repeat(begins, counts) + within]
        later = second > first
        first, second = first[later], second[later]
        alike = _bit_counts(self.bits[first] ^ self.bits[second]) <= MAX_DIFFERING_BITS
        return first[alike], second[alike]

    def _hits(
        self, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """For each part: its order; which rows found something; where in the order, and how much."""
        for values, order, ordered, held, near in self.parts:
            probes = values[rows, None] ^ near
            found, which = np.nonzero(held[probes])
            probe = probes[found, which]
            begins = np.searchsorted(ordered, probe)
            yield order, rows[found], begins, np.searchsorted(ordered, probe, "right") - begins


@lru_cache
def _near_zero(width: int) -> np.ndarray:
    """All numbers of so many bits of which at most two are set."""
    singles = [1 << bit for bit in range(width)]
    return np.array([0, *singles, *(one | other for one, other in combinations(singles, 2))])


def _bit_counts(values: np.ndarray) -> np.ndarray:
    """How many bits are set in each uint64 (``numpy.bitwise_count`` needs NumPy 2)."""
    return _BYTE_COUNTS[values.view(np.uint8).reshape(-1, 8)].sum(1, dtype=np.int64)


_BYTE_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)
