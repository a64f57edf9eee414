"""Maps as pictures: on the original pixels, side by side, with a colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from biod2c_core.inference.attention.boxes import PixelBox, peak

PANEL = 320  # longest side of a panel in pixels
PANELS_IN_A_ROW = 4
STRENGTH = 0.6  # of the colours where the map is largest
LINE = 16  # height of a line of text in pixels
_MARGIN, _GAP, _BAR = 10, 4, 60
_INK, _PAPER, _BOX = (20, 20, 20), (255, 255, 255), (0, 255, 120)
# Dark blue over green to yellow: lightness rises throughout, so that it also reads in grey.
_STOPS = np.array(
    [[48, 18, 90], [50, 72, 150], [30, 120, 150], [40, 165, 120], [150, 205, 60], [253, 231, 37]],
    dtype=np.float64,
)


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: ``picture`` under its title and subtitle."""

    title: str
    subtitle: str
    picture: Image.Image


@lru_cache(maxsize=1)
def colours() -> np.ndarray:
    """The colour scale, (256, 3) uint8, from least to most."""
    places = np.linspace(0, len(_STOPS) - 1, 256)
    channels = [np.interp(places, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)]
    return np.stack(channels, 1).round().astype(np.uint8)


def overlay(
    image: Image.Image,
    values: np.ndarray,
    boxes: Sequence[PixelBox] = (),
    largest: float | None = None,
) -> Image.Image:
    """A map on its image: the stronger, the more of the colour.

    Args:
        image: RGB, any size; it keeps its pixels' places.
        values: (H, W), not negative.
        boxes: To draw, in pixels of the image.
        largest: The value of full colour; by default the map's own maximum.
    """
    top = largest or float(values.max()) or 1.0
    levels = Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))
    spread = np.asarray(levels.resize(image.size, Image.Resampling.BILINEAR))
    painted = colours()[spread].astype(np.float32)
    share = STRENGTH * (0.25 + 0.75 * spread[..., None].astype(np.float32) / 255)
    pixels = np.asarray(image.convert("RGB"), np.float32)
    blended = Image.fromarray((pixels * (1 - share) + painted * share).round().astype(np.uint8))
    _mark(blended, values, boxes)
    return blended


def _mark(picture: Image.Image, values: np.ndarray, boxes: Sequence[PixelBox]) -> None:
    """Draw the boxes and a cross at the maximum."""
    pen = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) / 200))
    for box in boxes:
        pen.rectangle(box, outline=_BOX, width=width)
    x, y = peak(values, picture.size)
    reach = max(3.0, max(picture.size) / 50)
    for ink, thick in ((_INK, width + 2), (_PAPER, width)):
        pen.line((x - reach, y, x + reach, y), fill=ink, width=thick)
        pen.line((x, y - reach, x, y + reach), fill=ink, width=thick)


@dataclass(frozen=True)
class Placed:
    """A picture at its place on a sheet, all in pixels; ``picture`` may be finer than its place."""

    left: int
    top: int
    size: tuple[int, int]
    picture: Image.Image


@dataclass(frozen=True)
class Sheet:
    """A figure before it is drawn, as dots or as lines.

    Attributes:
        size: Width and height in pixels.
        pictures: What is shown where.
        texts: (left, top, text) of each line, of height :data:`LINE`.
    """

    size: tuple[int, int]
    pictures: tuple[Placed, ...]
    texts: tuple[tuple[int, int, str], ...]


def arrange(
    rows: Sequence[Sequence[Panel]],
    heading: Sequence[str] = (),
    side: int = PANEL,
    columns: int = PANELS_IN_A_ROW,
) -> Sheet:
    """Rows of panels, longer ones wrapped, with the colour bar on the right of the first.

    The texts above a row take as many lines as its longest text needs.

    Args:
        rows: At least one panel each.
        heading: Texts above all of it, each on lines of its own.
        side: Longest side of a panel's picture in pixels.
        columns: Most panels in a row.
    """
    wrapped = [
        row[start : start + columns] for row in rows for start in range(0, len(row), columns)
    ]
    sizes = [[_shown_size(panel.picture, side) for panel in row] for row in wrapped]
    widths = [[max(width, side // 2) for width, _ in row] for row in sizes]
    right = _MARGIN + max(sum(row) + _MARGIN * len(row) for row in widths)
    head = [line for text in heading for line in _wrap(text, right - 2 * _MARGIN)]
    texts = [(_MARGIN, _MARGIN + LINE * index, line) for index, line in enumerate(head)]
    pictures: list[Placed] = []
    down = _MARGIN + (LINE * len(head) + _MARGIN if head else 0)
    for row, shown, wide in zip(wrapped, sizes, widths, strict=True):
        lines = [
            _wrap(panel.title, width)[:3] + _wrap(panel.subtitle, width)[:2]
            for panel, width in zip(row, wide, strict=True)
        ]
        across, top = _MARGIN, down + LINE * max(map(len, lines)) + _GAP
        for panel, size, width, said in zip(row, shown, wide, lines, strict=True):
            texts += [(across, down + LINE * index, line) for index, line in enumerate(said)]
            pictures.append(Placed(across, top, size, panel.picture))
            across += width + _MARGIN
        down = top + max(height for _, height in shown) + _MARGIN
    bar = pictures[0]
    pictures.append(Placed(right + _MARGIN, bar.top, (14, bar.size[1]), _bar()))
    texts.append((right + _MARGIN + 18, bar.top - 2, "max"))
    texts.append((right + _MARGIN + 18, bar.top + bar.size[1] - LINE + 2, "0"))
    return Sheet((right + _BAR, down), tuple(pictures), tuple(texts))


def paint(sheet: Sheet) -> Image.Image:
    """The sheet as dots, on white."""
    page = Image.new("RGB", sheet.size, _PAPER)
    pen = ImageDraw.Draw(page)
    for placed in sheet.pictures:
        resized = placed.picture.resize(placed.size, Image.Resampling.LANCZOS)
        page.paste(resized, (placed.left, placed.top))
    for left, top, text in sheet.texts:
        pen.text((left, top), text, fill=_INK, font=_font())
    return page


def figure(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """:func:`arrange`, painted."""
    return paint(arrange(rows))


def _shown_size(picture: Image.Image, side: int) -> tuple[int, int]:
    scale = side / max(picture.size)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _bar() -> Image.Image:
    """The colour scale of each map: none, below, to its maximum."""
    return Image.fromarray(colours()[::-1, None, :])


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)


def _wrap(text: str, width: int) -> list[str]:
    """Break a text at blanks (or anywhere, if need be) to fit the width."""
    lines, line = [], ""
    for word in text.split():
        grown = f"{line} {word}".strip()
        if _font().getlength(grown) <= width:
            line = grown
            continue
        if line:
            lines.append(line)
        while _font().getlength(word) > width:
            cut = next(n for n in range(len(word), 0, -1) if _font().getlength(word[:n]) <= width)
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line] if line else lines
