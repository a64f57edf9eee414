"""The kinds of hostile input, each in its own file, and their shares of a run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

One = Callable[[random.Random], Callable[[], Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        share: Of 20,000 inputs.
        prepare: Makes valid examples in a folder, once.
        begin: In a process that reads such inputs, given the examples, the process's folder and what
            it says: a generator of one value, which makes an input by a random generator and gives what reads it.
    """  # noqa: E501

    share: int
    prepare: Callable[[Path], Any]
    begin: Callable[[Any, Path, Any], Iterator[One]]


def kinds() -> dict[str, Kind]:
    """All of them by name."""
    from kinds import checkpoints, pictures, presets, records, replies, requests, volumes

    return {
        "pictures": Kind(6500, pictures.prepare, pictures.begin),
        "volumes": Kind(4500, volumes.prepare, volumes.begin),
        "records": Kind(4000, records.prepare, records.begin),
        "presets": Kind(1000, presets.prepare, presets.begin),
        "checkpoints": Kind(1000, checkpoints.prepare, checkpoints.begin),
        "requests": Kind(1500, requests.prepare, requests.begin),
        "replies": Kind(1500, replies.prepare, replies.begin),
    }
