"""Split records into train, validation and test so that no image is in two of them.

Every group (an image, or a tag such as the patient) goes to one split as a whole. Groups are dealt in
an order that depends only on the seed and the group's name, so that the same records give the same
split on every machine and in whatever order they stand. Each group goes where its records of each
kind (source and answer type) are missing most, measured by the fall of the squared error

    sum over kinds k of (share * n_k - dealt_k)^2 / (share * n_k)
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.data.relocate import ImagePaths
from biod2c_core.errors import InputError

DEFAULT_FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
Kind = tuple[str, str]


def split_records(
    records: Sequence[Record],
    fractions: dict[str, float] | None = None,
    *,
    seed: int = 0,
    group: str = "image",
) -> list[Record]:
    """Assign a split to every record.

    Args:
        records: The records; their present split is overwritten.
        fractions: Share of the records for each split; 8:1:1 by default. Scaled to sum to 1.
        seed: Another seed deals the groups differently.
        group: ``image``, ``source``, or the name of a tag: records that share it stay together.

    Returns:
        The records in their order, with ``split`` set.

    Raises:
        InputError: No record, a negative fraction, or a record without the group's tag.
    """
    if not records:
        raise InputError("there is no record to split", "Give a data set with records.")
    shares = _normalized(fractions or DEFAULT_FRACTIONS)
    sizes: dict[str, Counter[Kind]] = defaultdict(Counter)
    for record in records:
        sizes[group_key(record, group)][record.source, record.answer_type] += 1
    chosen = _deal(sizes, shares, seed)
    return [replace(record, split=chosen[group_key(record, group)]) for record in records]


def split_data(
    source: str | Path,
    out: str | Path,
    fractions: dict[str, float] | None = None,
    *,
    seed: int = 0,
    group: str = "image",
) -> list[Record]:
    """Read a data set and write it as one JSONL with a new ``split``; see :func:`split_records`.

    Returns:
        What was written.

    Raises:
        InputError: A malformed row, or nothing to split.
    """
    paths = ImagePaths(Path(out), [root := image_root(source)])
    records = split_records(read_records(source), fractions, seed=seed, group=group)
    located = [paths.relocate(record, root) for record in records]
    write_records(out, located)
    paths.write_link()
    return located


def group_key(record: Record, group: str) -> str:
    """What keeps records together.

    Raises:
        InputError: The record has no such tag.
    """
    if group in ("image", "source"):
        return str(getattr(record, group))
    if group not in record.tags:
        known = ", ".join(["image", "source", *sorted(record.tags)])
        raise InputError(
            f"record {record.id!r} has no tag {group!r} to group by", f"It has: {known}."
        )
    return record.tags[group]


def _normalized(fractions: dict[str, float]) -> dict[str, float]:
    total = sum(fractions.values())
    if not 0 < total < float("inf") or min(fractions.values()) < 0:
        raise InputError(
            f"split fractions must be positive, got {fractions}", "For example 0.8 0.1 0.1."
        )
    return {name: share / total for name, share in fractions.items() if share > 0}


def _deal(sizes: dict[str, Counter[Kind]], shares: dict[str, float], seed: int) -> dict[str, str]:
    totals: Counter[Kind] = sum(sizes.values(), Counter())
    missing = {
        split: {kind: share * total for kind, total in totals.items()}
        for split, share in shares.items()
    }
    chosen = {}
    for name in sorted(sizes, key=lambda name: _shuffled(seed, name)):
        size = sizes[name]
        gain = {
            split: sum(
                count * (2 * lack[kind] - count) / (shares[split] * totals[kind])
                for kind, count in sorted(size.items())
            )
            for split, lack in missing.items()
        }
        split = max(shares, key=gain.__getitem__)
        chosen[name] = split
        for kind, count in size.items():
            missing[split][kind] -= count
    return chosen


def _shuffled(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
