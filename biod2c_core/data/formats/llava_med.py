"""LLaVA-Med's alignment and instruction files: a JSON array of conversations about an image.

An alignment item is one exchange ("Describe the image." and its caption) and becomes a record with a
caption; an instruction item has several and becomes one question per turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.formats.base import (
    Format,
    ReadOptions,
    Row,
    add_own_fields,
    first_names,
    folder_of,
    image_prefix,
    in_folder,
    split_of,
)
from biod2c_core.data.formats.fields.notes import Notes
from biod2c_core.data.formats.fields.values import caption_fields, required, yes_no_type
from biod2c_core.data.formats.rows.json_array import iter_json_array

KEYS = ("conversatons", "conversations")  # the published file misspells it
TAKEN = ("id", "image", *KEYS)


def _detect(path: Path) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    return not first_names(iter_json_array(path)).isdisjoint(KEYS)


def _exchanges(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of human and machine turns.

    Raises:
        ValueError: Turns are missing, of the wrong type or out of order.
    """
    turns = next((row[key] for key in KEYS if key in row), None)
    if not isinstance(turns, list) or len(turns) < 2 or len(turns) % 2:
        raise ValueError(f"field {KEYS[1]!r} must be a list of pairs of turns")
    for number, turn in enumerate(turns):
        speaker = ("human", "gpt")[number % 2]
        if not isinstance(turn, dict) or turn.get("from") != speaker:
            raise ValueError(f"turn {number + 1} must be from {speaker!r}")
    texts = [required(turn, "value").replace("<image>", "").strip() for turn in turns]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _records(row: Any, prefix: str, split: str) -> list[dict[str, Any]]:
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    exchanges = _exchanges(row)
    shared = {
        "image": in_folder(prefix, required(row, "image")),
        "source": "llava-med",
        "split": split,
    }
    name = f"llava-med-{required(row, 'id')}"
    if len(exchanges) == 1:
        return [{**shared, "id": name, **caption_fields(*exchanges[0])}]
    return [
        {
            **shared,
            "id": f"{name}-{turn}",
            "question": question,
            "answer": answer,
            "answer_type": yes_no_type(answer),
        }
        for turn, (question, answer) in enumerate(exchanges, start=1)
    ]


def _read(path: Path, options: ReadOptions) -> Iterator[Row]:
    prefix = image_prefix(folder_of(path), "images")
    for line, row in iter_json_array(path):
        try:
            for turn, fields in enumerate(_records(row, prefix, split_of(path))):
                notes = options.notes if turn == 0 else Notes()  # an item counts once
                add_own_fields(fields, row, TAKEN, notes)
                yield Row(path, line, fields)
        except ValueError as error:
            yield Row(path, line, error)


FORMAT = Format(
    name="llava-med",
    layout="one .json array of conversations; images beside it or in images/",
    detect=_detect,
    read=_read,
    image_root=folder_of,
)
