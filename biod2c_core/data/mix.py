"""Build a training set from several sources, and BioVGQ (section 2) from its parts."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import find_format, iter_good_records
from biod2c_core.data.records import SPLITS, Record
from biod2c_core.data.relocate import ImagePaths
from biod2c_core.errors import InputError

# Section 2: PMC-VQA's clean images with new questions, "integrating the training splits of SLAKE,
# Path-VQA, and RAD-VQA".
BIOVGQ_TRAIN_SPLIT_ONLY = frozenset({"slake", "path-vqa", "vqa-rad"})


@dataclass(frozen=True)
class Part:
    """One source of a mix.

    Attributes:
        path: Canonical JSONL, or a known data set.
        weight: How often each record is taken: 0.5 takes half of them, 2 each twice, 2.5 each
            twice and half of them once more.
        split: Take only this split; empty for all.
    """

    path: Path
    weight: float = 1.0
    split: str = ""


@dataclass(frozen=True)
class MixReport:
    """What a mix took.

    Attributes:
        records: Records written, by ``Record.source``.
        images: Different images, by ``Record.source``.
        link: The link beside the output to its images, if one was needed.
    """

    records: dict[str, int]
    images: dict[str, int]
    link: Path | None


def parse_part(text: str) -> Part:
    """Read ``PATH[@SPLIT][=WEIGHT]``; a path that exists as written is taken as one.

    Raises:
        InputError: The weight is no number above 0, or the split is unknown.
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

    Which records a fractional weight takes depends on the seed and their ids alone. An id that
    another part has too, or that is taken again, gets a number behind it.

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
    images: set[tuple[str, str]] = set()
    with atomic_open(out) as file:
        for part, root in zip(parts, roots, strict=True):
            for record in filter(keep, _records(part, advance)):
                located = paths.relocate(record, root)
                for _ in range(_copies(record.id, part.weight, seed)):
                    file.write(replace(located, id=names.unique(record.id)).to_json() + "\n")
                    taken[record.source] += 1
                    images.add((record.source, located.image))
        if not taken:
            raise InputError("no record is left in the mix", "Check the splits and weights.")
    paths.write_link()
    return MixReport(dict(taken), dict(Counter(source for source, _ in images)), paths.link)


def _records(part: Part, advance: Callable[[], object]) -> Iterator[Record]:
    for record in iter_good_records(part.path):
        advance()
        if part.split in ("", record.split):
            yield record


def _copies(name: str, weight: float, seed: int) -> int:
    """The whole part of the weight, and one more for the fraction's share of the records."""
    whole = int(weight)
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return whole + (int.from_bytes(digest[:8], "big") / 2**64 < weight - whole)


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
