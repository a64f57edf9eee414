"""Figures and numbers of attention maps, as files and JSON rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import InputError
from biod2c_core.inference.attention.attention_map import AttentionMap
from biod2c_core.inference.attention.boxes import PixelBox, peak, score_boxes
from biod2c_core.inference.attention.render import Panel, Sheet, arrange, overlay, paint
from biod2c_core.inference.attention.vector import VECTOR, check_vector, save_vector

MAX_SIDE = 1024  # a panel shows no more; a large picture is shrunk once, before it is painted
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def arrange_maps(
    image: Image.Image,
    maps: Sequence[AttentionMap],
    beside: Sequence[AttentionMap] = (),
    boxes: Sequence[PixelBox] = (),
    tokens: bool = False,
) -> Sheet:
    """The figure, to :func:`paint` or :func:`save_sheet`: all questions side by side, or a row each.

    Args:
        image: The original, RGB.
        maps: One a question.
        beside: The maps of the same questions without fusion, shown on the left.
        boxes: To draw on every map, in pixels of the image.
        tokens: Add a panel for each token of the answer.
    """
    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    scale = small.width / image.width, small.height / image.height
    moved = [_scale(box, *scale) for box in boxes]
    original = Panel("image", "", small)
    panels = [map_panel(small, each, moved) for each in maps]
    if not beside and not tokens:
        return arrange([[original, *panels]])
    rows = []
    for index, each in enumerate(maps):
        row = [panels[index]]
        if beside:
            row.insert(0, map_panel(small, beside[index], moved, "without fusion: "))
        rows.append([original, *row, *(_token_panels(small, each, moved) if tokens else [])])
    return arrange(rows)


def draw_maps(
    image: Image.Image,
    maps: Sequence[AttentionMap],
    beside: Sequence[AttentionMap] = (),
    boxes: Sequence[PixelBox] = (),
    tokens: bool = False,
) -> Image.Image:
    """:func:`arrange_maps`, painted."""
    return paint(arrange_maps(image, maps, beside, boxes, tokens))


def _scale(box: PixelBox, across: float, down: float) -> PixelBox:
    left, top, right, bottom = box
    return PixelBox((left * across, top * down, right * across, bottom * down))


def map_panel(
    image: Image.Image, shown: AttentionMap, boxes: Sequence[PixelBox] = (), prefix: str = ""
) -> Panel:
    """A map on its image, under the question and, behind ``prefix``, answer and confidence."""
    text = shown.answer or "(no answer)"
    subtitle = f"{prefix}{text} ({shown.confidence:.2f})"
    return Panel(shown.question, subtitle, overlay(image, shown.values, boxes))


def _token_panels(
    image: Image.Image, shown: AttentionMap, boxes: Sequence[PixelBox]
) -> list[Panel]:
    pairs = zip(shown.tokens, shown.token_values, strict=True)
    return [Panel(f"token: {text}", "", overlay(image, values, boxes)) for text, values in pairs]


def map_row(
    shown: AttentionMap, size: tuple[int, int], boxes: Sequence[PixelBox] = (), tokens: bool = False
) -> dict[str, Any]:
    """A map as a JSON row.

    Args:
        shown: The map.
        size: Width and height of the image.
        boxes: To score, in pixels.
        tokens: Add the map of each token of the answer.
    """
    view = {key: _listed(value) for key, value in asdict(shown.view).items()}
    x, y = peak(shown.values, size)
    row = {
        "question": shown.question,
        "answer": shown.answer,
        "confidence": shown.confidence,
        "calibrated": shown.calibrated,
        **({} if shown.familiarity is None else {"familiarity": shown.familiarity}),
        **view,
        "image_size": list(size),
        "peak": [round(x, 1), round(y, 1)],
        "boxes": [_rounded(asdict(score)) for score in score_boxes(shown.values, size, boxes)],
        "map": shown.values.round(8).tolist(),
        "tokens": list(shown.tokens),
    }
    return {**row, "token_maps": shown.token_values.round(8).tolist()} if tokens else row


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else sorted(value)


def _rounded(score: dict[str, Any]) -> dict[str, Any]:
    return {**score, "mass": round(score["mass"], 4), "area": round(score["area"], 4)}


def check_picture_path(path: Path) -> Path:
    """Refuse a name that is not that of a picture, before a model runs for it.

    Raises:
        InputError: The suffix is not that of a picture format.
        MissingDependencyError: PDF or SVG, and matplotlib is not installed.
    """
    if path.suffix.lower() in VECTOR:
        check_vector()
    elif path.suffix.lower() not in PICTURES:
        endings = ", ".join((*PICTURES, *VECTOR))
        raise InputError(f"{path} is not the name of a picture", f"Let its name end in {endings}.")
    return path


def save_sheet(path: Path, sheet: Sheet) -> None:
    """Write a figure, atomically, in the format of its name.

    Raises:
        MissingDependencyError: PDF or SVG, and matplotlib is not installed.
    """
    if path.suffix.lower() in VECTOR:
        save_vector(path, sheet)
    else:
        save_picture(path, paint(sheet))


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture, atomically, in the format of its name."""
    name = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(path.suffix.lower(), "PNG")
    with atomic_open(path, "wb") as file:
        picture.save(file, name)


def save_array(path: Path, maps: Sequence[AttentionMap]) -> None:
    """Write the maps as one ``.npy`` array, (questions, H, W) float32, atomically."""
    with atomic_open(path, "wb") as file:
        np.save(file, np.stack([each.values for each in maps]).astype(np.float32))


@dataclass(frozen=True)
class AttentionFigure:
    """A map and the image that it was made for.

    Attributes:
        map: The map, with the answer that it belongs to.
        image: The image, RGB.
    """

    map: AttentionMap
    image: Image.Image

    @property
    def answer(self) -> str:
        """The answer that the map belongs to."""
        return self.map.answer

    @property
    def values(self) -> np.ndarray:
        """The map, (H, W) over the image stretched to the grid, float64, sum 1."""
        return self.map.values

    @property
    def picture(self) -> Image.Image:
        """The image, and beside it the map on it, under question and answer."""
        return draw_maps(self.image, [self.map])

    def save(self, path: str | Path) -> None:
        """Write the picture, atomically, in the format of its name.

        Raises:
            InputError: The suffix is not that of a picture format.
        """
        save_sheet(check_picture_path(Path(path)), arrange_maps(self.image, [self.map]))
