"""Build a training set from several sources, and BioVGQ (section 2) from its parts."""

from __future__ import annotations

import hashlib
import marshal
import math
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import find_format, iter_good_records
from biod2c_core.data.records import SPLITS, Record
from biod2c_core.data.relocate import ImagePaths
from biod2c_core.errors import InputError

# Section 2: PMC-VQA's clean images with new questions, "integrating the training splits of SLAKE,
# Path-VQA, and RAD-VQA".
BIOVGQ_TRAIN_SPLIT_ONLY = frozenset({"slake", "path-vqa", "vqa-rad"})
_BATCH = 64


@dataclass(frozen=True)
class Part:
    """One source of a mix.

    Attributes:
        path: Canonical JSONL, or a known data set.
        weight: How often each record is taken: 0.5 takes half of them, 2 each twice, 2.5 each
            twice and half of them once more. The records taken are ``weight`` times those there
            are, rounded to the nearest whole number, half a record upwards.
        split: Take only this split; empty for all.
    """

    path: Path
    weight: float = 1.0
    split: str = ""

    def __str__(self) -> str:
        split = f"@{self.split}" if self.split else ""
        return f"{self.path}{split}" + (f"={self.weight:g}" if self.weight != 1 else "")


@dataclass(frozen=True)
class MixReport:
    """What a mix took.

    Attributes:
        records: Records written, by ``Record.source``.
        images: Different images, by ``Record.source``.
        link: The link beside the output to its images, if one was needed.
        dropped: The parts from which nothing was taken, as written, each with the reason.
    """

    records: dict[str, int]
    images: dict[str, int]
    link: Path | None
    dropped: dict[str, str] = field(default_factory=dict)


def parse_part(text: str) -> Part:
    """Read ``PATH[@SPLIT][=WEIGHT]``; a path that exists as written is taken as one.

    Raises:
        InputError: The weight is not a number above 0, or the split is unknown.
    """
    if Path(text).exists():
        return Part(Path(text))
    rest, separator, weight = text.rpartition("=")
    path, at, split = (rest if separator else text).rpartition("@")
    if not at:
        path, split = split, ""
    try:
        share = float(weight) if separator else 1.0
    except ValueError:
        share = 0.0
    if not 0 < share < math.inf or (at and split not in SPLITS[:-1]):
        raise InputError(
            f"cannot read the part {text!r}", "Write PATH, PATH=WEIGHT or PATH@SPLIT=WEIGHT."
        )
    return Part(Path(path), share, split)


def is_in_biovgq(record: Record) -> bool:
    """Whether BioVGQ takes the record: of three sources the training split, of others all."""
    return record.source not in BIOVGQ_TRAIN_SPLIT_ONLY or record.split == "train"


def mix_data(
    parts: Sequence[Part],
    out: str | Path,
    *,
    seed: int = 0,
    keep: Callable[[Record], bool] = lambda _: True,
    advance: Callable[[], object] = lambda: None,
) -> MixReport:
    """Write one JSONL from several sources; images stay where they are.

    How many records a weight takes is exact; which ones a fraction takes depends on the seed and
    their ids alone. An id that another part has too, or that is taken again, gets a number behind
    it. A part that gives nothing is named in the report.

    Args:
        parts: The sources, in the order in which they are written.
        out: The JSONL file, written atomically.
        seed: Another seed takes other records.
        keep: Leaves out the records for which it is false.
        advance: Called once a record read.

    Raises:
        InputError: No part, a malformed row, or nothing is left.
    """
    roots = [find_format(part.path).image_root(part.path) for part in parts]
    if not roots:
        raise InputError("there is nothing to mix", "Give at least one data set.")
    paths, names = ImagePaths(Path(out), roots), _Names()
    taken: Counter[str] = Counter()
    images: dict[str, set[str]] = defaultdict(set)
    dropped: dict[str, str] = {}
    with atomic_open(out) as file:
        for part, root in zip(parts, roots, strict=True):
            counts = _PartCounts()
            records = filter(keep, _records(part, advance, counts))
            located = (paths.relocate(record, root) for record in records)
            for record, copies in _copied(located, part.weight, seed, Path(out).parent, counts):
                for _ in range(copies):
                    name = names.unique(record.id)
                    copy = record if name == record.id else record.changed(id=name)
                    file.write(copy.to_json() + "\n")
                if copies:
                    taken[record.source] += copies
                    images[record.source].add(record.image)
                    counts.taken += copies
            if not counts.taken:
                dropped[str(part)] = counts.reason(part)
        if not taken:
            raise InputError("no record is left in the mix", "Check the splits and weights.")
    paths.write_link()
    many = {source: len(names) for source, names in images.items()}
    return MixReport(dict(taken), many, paths.link, dropped)


@dataclass
class _PartCounts:
    """How many records of a part are left after each step."""

    read: int = 0
    of_split: int = 0
    kept: int = 0
    taken: int = 0

    def reason(self, part: Part) -> str:
        """Why nothing of the part was taken."""
        if not self.read:
            return "it has no record"
        if not self.of_split:
            return f"none of its {self.read:,} records is of the split {part.split!r}"
        if not self.kept:
            return f"none of its {self.of_split:,} records belongs in this composition"
        return f"{part.weight:g} of {self.kept:,} records is less than half a record"


def _records(part: Part, advance: Callable[[], object], counts: _PartCounts) -> Iterator[Record]:
    for record in iter_good_records(part.path):
        advance()
        counts.read += 1
        if part.split in ("", record.split):
            counts.of_split += 1
            yield record


def _copied(
    records: Iterable[Record], weight: float, seed: int, folder: Path, counts: _PartCounts
) -> Iterator[tuple[Record, int]]:
    """Each record with how often it is taken: the whole part of the weight, and some once more.

    A fraction takes the records whose ids have the smallest digests. Which ones those are is known
    when all have been seen, so they wait in a temporary file, not in memory.
    """
    whole = int(weight)
    if weight == whole:
        for record in records:
            counts.kept += 1
            yield record, whole
        return
    digests, lengths = array("Q"), array("Q")
    with tempfile.TemporaryFile(dir=folder) as waiting:
        for some in _batches(records):
            digests.extend(_digest(record.id, seed) for record in some)
            rows = [vars(record) for record in some]
            lengths.append(waiting.write(marshal.dumps(rows)))
        counts.kept = len(digests)
        wanted = math.floor(Fraction(str(weight)) * counts.kept + Fraction(1, 2))
        once_more = wanted - whole * counts.kept
        last = int(np.partition(digests, once_more - 1)[once_more - 1]) if once_more else -1
        waiting.seek(0)
        order = iter(digests)
        for length in lengths:
            # read back as written above, from a file that has no name
            for row in marshal.loads(waiting.read(length)):
                if copies := whole + (next(order) <= last):
                    yield Record(**row), copies


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while some := list(islice(iterator, _BATCH)):
        yield some


def _digest(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big")


class _Names:
    """Hands out ids that are unique in the mix."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def unique(self, name: str) -> str:
        number = self._taken.get(name, 0) + 1
        while number > 1 and f"{name}-{number}" in self._taken:
            number += 1
        self._taken[name] = number
        final = name if number == 1 else f"{name}-{number}"
        self._taken.setdefault(final, 1)
        return final
