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
_MARGIN, _LINE, _BAR = 10, 16, 60
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


def figure(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Rows of panels on white, longer ones wrapped, with the colour bar on the right."""
    wrapped = [
        row[start : start + PANELS_IN_A_ROW]
        for row in rows
        for start in range(0, len(row), PANELS_IN_A_ROW)
    ]
    drawn = [[_draw_panel(panel) for panel in row] for row in wrapped]
    width = max(sum(each.width + _MARGIN for each in row) for row in drawn)
    heights = [max(each.height for each in row) + _MARGIN for row in drawn]
    page = Image.new("RGB", (width + _MARGIN + _BAR, sum(heights) + _MARGIN), _PAPER)
    down = _MARGIN
    for row, height in zip(drawn, heights, strict=True):
        across = _MARGIN
        for each in row:
            page.paste(each, (across, down))
            across += each.width + _MARGIN
        down += height
    _draw_bar(page, drawn[0][0])
    return page


def _draw_panel(panel: Panel) -> Image.Image:
    picture = panel.picture
    scale = PANEL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    width = max(picture.width, PANEL // 2)
    lines = _wrap(panel.title, width)[:3] + _wrap(panel.subtitle, width)[:2]
    page = Image.new("RGB", (width, _LINE * 5 + picture.height), _PAPER)
    pen = ImageDraw.Draw(page)
    for index, line in enumerate(lines):
        pen.text((0, index * _LINE), line, fill=_INK, font=_font())
    page.paste(picture, (0, _LINE * 5))
    return page


def _draw_bar(page: Image.Image, panel: Image.Image) -> None:
    """The colour scale beside the first row: of each map, none to its maximum."""
    left, top = page.width - _BAR + _MARGIN, _MARGIN + _LINE * 5
    height = panel.height - _LINE * 5
    bar = Image.fromarray(colours()[::-1, None, :]).resize((14, height), Image.Resampling.BILINEAR)
    page.paste(bar, (left, top))
    pen = ImageDraw.Draw(page)
    pen.text((left + 18, top - 2), "max", fill=_INK, font=_font())
    pen.text((left + 18, top + height - _LINE + 2), "0", fill=_INK, font=_font())


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
