"""Multiple choice with the choices under other letters, so that a preferred letter gains nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.data.formats import image_root, iter_good_records
from biod2c_core.data.formats.fields.choices import choice_fields
from biod2c_core.data.records import Record, write_records
from biod2c_core.data.relocate import ImagePaths
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.choices import choices_of

# "Both A and B", "all of the above": what they mean hangs on where the others stand
_REFERS = re.compile(
    r"\b(?:all|none|any|both|neither|either) of (?:the above|these|them|the following)\b"
    r"|\b(?:above|aforementioned|preceding)\b"
    r"|\b(?:both|neither|either)\s+\(?[A-H]\)?\s+(?:and|n?or)\b"
    r"|^\(?[A-H]\)?(?:\s*(?:,|and|&|or)\s*\(?[A-H]\)?)+\.?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Shuffled:
    """What was written.

    Attributes:
        shuffled: Questions whose choices have other letters now.
        kept: Questions whose choices speak of each other by place, left as they are.
        other: Records that are not multiple choice.
    """

    shuffled: int
    kept: int
    other: int


def is_shuffled(record: Record) -> bool:
    """Whether a record has choices, and none that speaks of the others by their place."""
    choices = choices_of(record)
    return len(choices) > 1 and not any(_REFERS.search(text) for text in choices.values())


def shuffle_choices(record: Record, seed: int) -> Record:
    """The record with its choices under other letters, and the right letter moved with them.

    The order hangs on the seed and the id alone, so it is the same in any part of the data.

    Args:
        record: One that is not multiple choice, or whose choices speak of each other by place, is
            given back as it is.
        seed: Equal seeds give equal orders.
    """
    if not is_shuffled(record):
        return record
    choices = choices_of(record)
    order = list(choices)
    random.Random(f"{seed}:{record.id}").shuffle(order)
    texts = {new: choices[old] for new, old in zip(choices, order, strict=True)}
    label = record.tags.get("answer_label", "").strip().upper()
    moved = dict(zip(order, choices, strict=True)).get(label, "")
    others = {
        key: value
        for key, value in record.tags.items()
        if not key.startswith("choice_") and key != "answer_label"
    }
    return record.changed(tags={**choice_fields(texts, moved, record.answer)["tags"], **others})


def shuffle_data(source: str | Path, out: str | Path, seed: int) -> Shuffled:
    """Read a data set and write it as one JSONL with the choices shuffled, atomically.

    Args:
        source: File or folder of a known format.
        out: The JSONL file to write.
        seed: See :func:`shuffle_choices`.

    Raises:
        InputError: A malformed row, or no question that can be shuffled.
    """
    paths = ImagePaths(Path(out), [root := image_root(source)])
    counts = {"shuffled": 0, "kept": 0, "other": 0}

    def changed(records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            kind = "shuffled" if is_shuffled(record) else "kept" if choices_of(record) else "other"
            counts[kind] += 1
            yield paths.relocate(shuffle_choices(record, seed), root)
        if not counts["shuffled"]:
            raise InputError(
                f"{source} has no multiple choice to shuffle",
                "Choices are the tags choice_a, choice_b ... of a record.",
            )

    write_records(out, changed(iter_good_records(source)))
    paths.write_link()
    return Shuffled(**counts)
