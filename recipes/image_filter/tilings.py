"""Compound figures: pictures laid out as panels the way papers do, with a known number of panels."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

Cell = tuple[float, float, float, float]  # left, top, right, bottom in the unit square
MOST_CLEAN_PANELS = 6  # the paper: more than six sub-figures are polluted
_MANY = (7, 7, 7, 8, 8, 8, 9, 9, 9, 9, 10, 10, 11, 12, 12, 12, 14, 15, 16, 16, 18, 20, 24, 25, 30)
_PAGES = ("white", "white", "white", "white", "black", "black", "#d8d8d8", "#404040", "#e8f0ff")
_INK = {"black": "white", "#404040": "white"}


@dataclass(frozen=True)
class Style:
    """What all panels of a figure share.

    Attributes:
        page: Colour between the panels.
        gutter: Pixels between neighbours, at most a sixth of the smaller side of the smallest panel; 0
            lets them touch.
        margin: Pixels around the figure.
        fit: ``cover`` crops a picture to its cell, ``contain`` leaves the page visible, ``stretch``
            distorts it.
        letters: ``""``, ``"inside"`` or ``"above"``: where panel letters stand.
        border: Pixels of a frame around each panel.
    """

    page: str
    gutter: int
    margin: int
    fit: str
    letters: str
    border: int


def draw_style(rng: random.Random) -> Style:
    """A style as papers have them; nearly all leave a gutter."""
    return Style(
        page=rng.choice(_PAGES),
        gutter=rng.choice((0, 1, 2, 2, 3, 4, 4, 6, 8, 10, 12, 16, 24)),
        margin=rng.choice((0, 0, 0, 2, 4, 8, 16, 30)),
        fit=rng.choice(("cover", "cover", "cover", "contain", "stretch")),
        letters=rng.choice(("", "", "inside", "inside", "above")),
        border=rng.choice((0, 0, 0, 0, 1, 2)),
    )


def draw_panel_count(rng: random.Random, polluted: bool, near_limit: bool = False) -> int:
    """2 to 6 panels, or more than six, mostly just above; near the limit 4 to 6, or 7 to 9."""
    if near_limit:
        return rng.choice((7, 7, 8, 9) if polluted else (4, 5, 5, 6, 6, 6))
    return rng.choice(_MANY) if polluted else rng.randint(2, MOST_CLEAN_PANELS)


def draw_cells(count: int, rng: random.Random) -> list[Cell]:
    """Place panels: a full grid, a grid with an unfinished row, uneven rows, or one large panel."""
    grids = [(r, count // r) for r in range(1, count + 1) if count % r == 0 and r <= 6]
    grids = [(r, c) for r, c in grids if (c <= 6 and max(r, c) <= 4 * min(r, c)) or count <= 6]
    kinds: list[Callable[[int, random.Random], list[Cell]]] = [_uneven_rows]
    if grids:
        kinds += [lambda n, rng: _grid(*rng.choice(grids))] * 5
    if 3 <= count <= 10:
        kinds += [_large_panel]
    if count >= 5:
        kinds += [_unfinished_grid]
    if MOST_CLEAN_PANELS < count <= 9:  # a strip, as fewer panels often are
        kinds += [lambda n, rng: _grid(1, n)]
    cells = rng.choice(kinds)(count, rng)
    if rng.random() < 0.3:
        cells = [(top, left, bottom, right) for left, top, right, bottom in cells]
    return cells


def _grid(rows: int, columns: int) -> list[Cell]:
    return [
        (c / columns, r / rows, (c + 1) / columns, (r + 1) / rows)
        for r in range(rows)
        for c in range(columns)
    ]


def _unfinished_grid(count: int, rng: random.Random) -> list[Cell]:
    columns = rng.randint(2, max(2, min(6, count - 1)))
    return _grid(-(-count // columns), columns)[:count]


def _uneven_rows(count: int, rng: random.Random) -> list[Cell]:
    rows = rng.randint(-(-count // 6), max(-(-count // 6), min(5, count // 2)))
    sizes = [count // rows + (index < count % rows) for index in range(rows)]
    for _ in range(rows):  # move panels between rows
        source, target = rng.randrange(rows), rng.randrange(rows)
        if sizes[source] > 1 and sizes[target] < 6:
            sizes[source] -= 1
            sizes[target] += 1
    rng.shuffle(sizes)
    heights = [rng.uniform(0.8, 1.25) for _ in sizes]
    edges = [sum(heights[:index]) / sum(heights) for index in range(rows + 1)]
    return [
        (column / size, edges[row], (column + 1) / size, edges[row + 1])
        for row, size in enumerate(sizes)
        for column in range(size)
    ]


def _large_panel(count: int, rng: random.Random) -> list[Cell]:
    share = rng.uniform(0.4, 0.65)
    rest = (
        _uneven_rows(count - 1, rng) if count < 5 else _grid(-(-(count - 1) // 2), 2)[: count - 1]
    )
    cells = [
        (share + (1 - share) * left, t, share + (1 - share) * right, b)
        for left, t, right, b in rest
    ]
    return [(0.0, 0.0, share, 1.0), *cells]


def tile(
    pictures: Sequence[Image.Image], cells: Sequence[Cell], style: Style, rng: random.Random
) -> Image.Image:
    """Draw one compound figure.

    Args:
        pictures: One for each cell.
        cells: Where they go.
        style: How.
        rng: For sizes and crops.

    Returns:
        An RGB figure whose long side is 300 to 1100 pixels.
    """
    width, height = _canvas(cells, rng)
    margin = style.margin
    page = Image.new("RGB", (width + 2 * margin, height + 2 * margin), style.page)
    for index, (picture, cell) in enumerate(zip(pictures, cells, strict=True)):
        box = _box(cell, width, height, style, rng)
        panel = _fit(picture, (box[2] - box[0], box[3] - box[1]), style, rng)
        page.paste(panel, (margin + box[0], margin + box[1]))
        if style.letters:
            _letter(page, index, (margin + box[0], margin + box[1]), style, box[3] - box[1])
    return page


def _canvas(cells: Sequence[Cell], rng: random.Random) -> tuple[int, int]:
    """A size at which the median panel is 70 to 280 pixels wide and has a usual shape."""
    middle = len(cells) // 2
    across = sorted(right - left for left, _, right, _ in cells)[middle]
    down = sorted(bottom - top for _, top, _, bottom in cells)[middle]
    shape = across / down / rng.uniform(0.75, 1.6)
    width = rng.uniform(70, 280) / across
    height = width * min(4.0, max(0.25, shape))
    scale = min(1.0, 1100 / max(width, height)) * max(1.0, 240 / max(width, height))
    return round(width * scale), round(height * scale)


def _box(
    cell: Cell, width: int, height: int, style: Style, rng: random.Random
) -> tuple[int, int, int, int]:
    left, top, right, bottom = (
        round(value * size) for value, size in zip(cell, (width, height) * 2, strict=True)
    )
    gap = min(style.gutter, min(right - left, bottom - top) // 6)
    left, top = left + (gap // 2 if left else 0), top + (gap // 2 if top else 0)
    right -= 0 if right == width else gap - gap // 2
    bottom -= 0 if bottom == height else gap - gap // 2
    if style.letters == "above":
        top += min(18, (bottom - top) // 5)
    return left, top, max(left + 8, right), max(top + 8, bottom)


def _fit(
    picture: Image.Image, size: tuple[int, int], style: Style, rng: random.Random
) -> Image.Image:
    if style.fit == "stretch":
        panel = picture.resize(size, Image.Resampling.BILINEAR)
    elif style.fit == "cover":
        centre = (rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7))
        panel = ImageOps.fit(picture, size, Image.Resampling.BILINEAR, centering=centre)
    else:
        panel = ImageOps.pad(picture, size, Image.Resampling.BILINEAR, color=style.page)
    if style.border:
        ink = _INK.get(style.page, "black")
        ImageDraw.Draw(panel).rectangle(
            (0, 0, size[0] - 1, size[1] - 1), outline=ink, width=style.border
        )
    return panel


def _letter(
    page: Image.Image, index: int, corner: tuple[int, int], style: Style, height: int
) -> None:
    name = chr(ord("A") + index % 26)
    size = max(9, min(22, height // 6))
    if style.letters == "above":
        place, ink = (corner[0] + 1, corner[1] - size - 1), _INK.get(style.page, "black")
    else:
        place = (corner[0] + 3, corner[1] + 2)
        bright = page.convert("L").resize((1, 1), box=(*place, place[0] + size, place[1] + size))
        ink = "black" if bright.getpixel((0, 0)) > 128 else "white"
    ImageDraw.Draw(page).text(place, name, fill=ink, font=ImageFont.load_default(size))
