"""Boxes on the image against a map: how much of it lies inside, and where its maximum falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

import numpy as np

from biod2c_core.data.records import ShareBox
from biod2c_core.errors import InputError
from biod2c_core.foreign import read_json

# Left, top, right, bottom in pixels of the image; in a record they are shares of it.
PixelBox = NewType("PixelBox", tuple[float, float, float, float])
_FORM = "Write LEFT,TOP,RIGHT,BOTTOM in pixels, several with ';', or name a JSON file of lists."


@dataclass(frozen=True)
class BoxScore:
    """A box against a map.

    Attributes:
        box: Left, top, right, bottom in pixels.
        mass: Share of the map inside the box.
        area: Share of the image inside the box; an even map has this mass.
        hit: Whether the map's maximum lies in the box (the pointing game).
    """

    box: PixelBox
    mass: float
    area: float
    hit: bool


def parse_boxes(text: str) -> list[PixelBox]:
    """Read boxes from ``"l,t,r,b;l,t,r,b"`` or from a JSON file ``[[l, t, r, b], ...]``.

    Raises:
        InputError: It is neither, or a box is empty.
    """
    try:
        rows: Any = (
            read_json(Path(text))
            if text.endswith(".json")
            else [part.split(",") for part in text.split(";")]
        )
        boxes = [tuple(float(value) for value in row) for row in rows]
    except OSError as error:
        raise InputError(f"cannot read {text}: {error.strerror}", "Check the path.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{text[:80]!r} holds no boxes", _FORM) from error
    for box in boxes:
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise InputError(f"box {list(box)} has no area", _FORM)
    return [PixelBox((left, top, right, bottom)) for left, top, right, bottom in boxes]


def check_boxes(boxes: Sequence[PixelBox], size: tuple[int, int]) -> None:
    """Refuse a box of which the image has nothing: it was meant for another one, or in other units.

    Args:
        boxes: In pixels.
        size: Width and height of the image.

    Raises:
        InputError: A box lies wholly outside.
    """
    for left, top, right, bottom in boxes:
        if left >= size[0] or top >= size[1] or right <= 0 or bottom <= 0:
            raise InputError(
                f"box {[left, top, right, bottom]} lies outside the image of {size[0]} x {size[1]}",
                _FORM,
            )


def peak(values: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """Where a map is largest: the middle of that cell, in pixels.

    Args:
        values: (H, W).
        size: Width and height of the image.
    """
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    height, width = values.shape
    return (column + 0.5) / width * size[0], (row + 0.5) / height * size[1]


def to_shares(box: PixelBox, size: tuple[int, int]) -> ShareBox:
    """A box in shares of an image of that width and height, as records have it."""
    left, top, right, bottom = box
    return ShareBox((left / size[0], top / size[1], right / size[0], bottom / size[1]))


def score_box(values: np.ndarray, size: tuple[int, int], box: PixelBox) -> BoxScore:
    """Score one box; a cell that it cuts counts by the share of it inside.

    Args:
        values: (H, W) with sum 1.
        size: Width and height of the image.
        box: In pixels; what lies outside the image does not count.
    """
    import torch  # only here: bad boxes are reported before it is loaded

    from biod2c_core.model.beyond.attention_guidance import covered_cells

    shares = torch.tensor([[to_shares(box, size)]], dtype=torch.float64)
    inside = covered_cells(shares, *values.shape)[0].numpy()
    x, y = peak(values, size)
    return BoxScore(
        box=box,
        mass=float((inside * values).sum()),
        area=float(inside.mean()),
        hit=bool(box[0] <= x <= box[2] and box[1] <= y <= box[3]),
    )


def score_boxes(
    values: np.ndarray, size: tuple[int, int], boxes: Sequence[PixelBox]
) -> list[BoxScore]:
    """:func:`score_box` for each box."""
    return [score_box(values, size, box) for box in boxes]
