"""Statistical plots: bars, curves, scatter, boxes, survival steps, forests and correlation maps."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
_PALETTES: tuple[tuple[Colour, ...], ...] = (
    ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    ((0, 0, 0), (110, 110, 110), (170, 170, 170), (60, 60, 60), (210, 210, 210)),
    ((27, 70, 140), (190, 30, 45), (240, 170, 40), (20, 130, 110), (90, 60, 120)),
    ((120, 190, 220), (250, 180, 170), (170, 220, 160), (230, 200, 120), (190, 170, 220)),
)
_WORDS = (
    "Time (days)",
    "Expression",
    "Survival",
    "Control",
    "Dose (mg)",
    "Score",
    "Age",
    "% of cells",
)


@dataclass
class _Axes:
    """A drawing area and what it is drawn with."""

    draw: ImageDraw.ImageDraw
    left: float
    top: float
    right: float
    bottom: float
    ink: Colour
    colours: Sequence[Colour]
    rng: random.Random
    width: int = field(default=2)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Unit coordinates, y upwards, to pixels."""
        return (
            self.left + x * (self.right - self.left),
            self.bottom - y * (self.bottom - self.top),
        )

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A filled bar."""
        (a, b), (c, d) = self.at(x0, y1), self.at(x1, y0)
        self.draw.rectangle((a, b, max(a, c), max(b, d)), fill=colour)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        """A polyline."""
        self.draw.line([self.at(*point) for point in points], fill=colour, width=self.width)


def draw_plot(rng: random.Random) -> Image.Image:
    """One plot of 240 to 720 pixels."""
    if rng.random() < 0.12:
        return _pie(rng)
    width, height = rng.randint(260, 720), rng.randint(240, 560)
    dark = rng.random() < 0.1
    ink: Colour = (230, 230, 230) if dark else (20, 20, 20)
    paper: Colour = (
        (25, 25, 30) if dark else rng.choice(((255, 255, 255),) * 3 + ((234, 234, 242),))
    )
    page = Image.new("RGB", (width, height), paper)
    palette = list(rng.choice(_PALETTES))
    rng.shuffle(palette)
    size = rng.choice((9, 11, 13, 15))
    axes = _Axes(
        ImageDraw.Draw(page),
        left=size * rng.uniform(2.5, 5),
        top=size * rng.uniform(1, 3),
        right=width - size * rng.uniform(0.5, 3),
        bottom=height - size * rng.uniform(2.5, 4.5),
        ink=ink,
        colours=palette,
        rng=rng,
        width=rng.choice((1, 2, 2, 3)),
    )
    _frame(axes, size)
    rng.choice((_bars, _curves, _scatter, _boxes, _steps, _forest, _heat))(axes)
    return page


def _pie(rng: random.Random) -> Image.Image:
    """A pie or a ring, flat or seen askew, with a legend."""
    width, height = rng.randint(300, 640), rng.randint(260, 560)
    page = Image.new("RGB", (width, height), rng.choice(((255, 255, 255), (245, 245, 240))))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(rng.randint(10, 16))
    x, y = width * rng.uniform(0.35, 0.6), height * rng.uniform(0.45, 0.55)
    across = rng.uniform(0.2, 0.34) * min(width, height)
    down = across * rng.choice((1, 1, 1, rng.uniform(0.5, 1.4)))
    colours = [colour for palette in rng.sample(_PALETTES, k=2) for colour in palette]
    angle, outline = rng.uniform(0, 360), rng.choice((None, (255, 255, 255), (0, 0, 0)))
    shares = [rng.uniform(0.3, 3) for _ in range(rng.randint(2, 8))]
    for number, share in enumerate(shares):
        end = angle + 360 * share / sum(shares)
        box = (x - across, y - down, x + across, y + down)
        draw.pieslice(box, angle, end, fill=colours[number], outline=outline)
        angle = end
        corner = (width * 0.02, 6 + number * 20)
        draw.rectangle((*corner, corner[0] + 12, corner[1] + 12), fill=colours[number])
        draw.text((corner[0] + 18, corner[1]), rng.choice(_WORDS), fill=(20, 20, 20), font=font)
    if rng.random() < 0.3:
        hole = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
        draw.ellipse(hole, fill=page.getpixel((0, height - 1)))
    return page


def _frame(axes: _Axes, size: int) -> None:
    rng, draw, font = axes.rng, axes.draw, ImageFont.load_default(size)
    ticks, grid = rng.randint(3, 8), rng.random() < 0.4
    for index in range(ticks + 1):
        x, _ = axes.at(index / ticks, 0)
        _, y = axes.at(0, index / ticks)
        if grid:
            draw.line((axes.left, y, axes.right, y), fill=(205, 205, 205))
        draw.line((axes.left - 4, y, axes.left, y), fill=axes.ink)
        draw.line((x, axes.bottom, x, axes.bottom + 4), fill=axes.ink)
        draw.text((axes.left - size * 2.2, y - size / 2), str(index * 10), fill=axes.ink, font=font)
        draw.text((x - size / 2, axes.bottom + 5), str(index), fill=axes.ink, font=font)
    draw.line((axes.left, axes.top, axes.left, axes.bottom, axes.right, axes.bottom), fill=axes.ink)
    if rng.random() < 0.4:
        draw.line(
            (axes.left, axes.top, axes.right, axes.top, axes.right, axes.bottom), fill=axes.ink
        )
    middle = (axes.left + axes.right) / 2
    draw.text(
        (middle - 3 * size, axes.bottom + 5 + size), rng.choice(_WORDS), fill=axes.ink, font=font
    )
    if rng.random() < 0.5:
        draw.text((axes.left, 0), rng.choice(_WORDS), fill=axes.ink, font=font)


def _bars(axes: _Axes) -> None:
    rng = axes.rng
    groups, series = rng.randint(2, 9), rng.randint(1, 3)
    for group in range(groups):
        for number in range(series):
            x = (group + 0.15 + 0.7 * number / series) / groups
            wide, high = 0.62 / series / groups, rng.uniform(0.1, 0.9)
            axes.box(x, 0, x + wide, high, axes.colours[number])
            axes.line(((x + wide / 2, high), (x + wide / 2, high + 0.05)), axes.ink)


def _curves(axes: _Axes) -> None:
    rng = axes.rng
    for number in range(rng.randint(1, 5)):
        rate, start, noise = rng.uniform(-4, 4), rng.uniform(0.1, 0.9), rng.uniform(0, 0.04)
        points = []
        for step in range(61):
            x = step / 60
            y = start + (0.9 - start) * math.tanh(rate * x) + rng.gauss(0, noise)
            points.append((x, min(1.0, max(0.0, y))))
        axes.line(points, axes.colours[number])


def _scatter(axes: _Axes) -> None:
    rng = axes.rng
    slope, radius = rng.uniform(-0.8, 0.8), rng.choice((2, 3, 4))
    for _ in range(rng.randint(15, 150)):
        x = rng.random()
        y = 0.5 + slope * (x - 0.5) + rng.gauss(0, 0.12)
        if 0 <= y <= 1:
            a, b = axes.at(x, y)
            colour = rng.choice(axes.colours[:2])
            axes.draw.ellipse((a - radius, b - radius, a + radius, b + radius), fill=colour)
    axes.line(((0, 0.5 - slope / 2), (1, 0.5 + slope / 2)), axes.ink)


def _boxes(axes: _Axes) -> None:
    groups = axes.rng.randint(2, 7)
    for group in range(groups):
        low, q1, q2, q3, high = sorted(axes.rng.uniform(0.05, 0.95) for _ in range(5))
        x0, x1 = (group + 0.25) / groups, (group + 0.75) / groups
        middle = (x0 + x1) / 2
        axes.line(((middle, low), (middle, high)), axes.ink)
        axes.box(x0, q1, x1, q3, axes.colours[group % len(axes.colours)])
        axes.line(((x0, q2), (x1, q2)), axes.ink)


def _steps(axes: _Axes) -> None:
    for number in range(axes.rng.randint(1, 4)):
        points, level = [(0.0, 1.0)], 1.0
        for step in range(1, 25):
            points.append((step / 24, level))
            level *= 1 - axes.rng.uniform(0, 0.12)
            points.append((step / 24, level))
        axes.line(points, axes.colours[number])


def _forest(axes: _Axes) -> None:
    rows = axes.rng.randint(4, 14)
    axes.line(((0.5, 0), (0.5, 1)), axes.ink)
    for row in range(rows):
        y, x, reach = (row + 0.5) / rows, axes.rng.uniform(0.2, 0.8), axes.rng.uniform(0.03, 0.2)
        axes.line(((x - reach, y), (x + reach, y)), axes.ink)
        axes.box(x - 0.012, y - 0.015, x + 0.012, y + 0.015, axes.colours[0])


def _heat(axes: _Axes) -> None:
    count, (r, g, b) = axes.rng.randint(4, 14), axes.colours[0]
    for row in range(count):
        for column in range(count):
            share = axes.rng.random()
            shade = tuple(round(255 + (value - 255) * share) for value in (r, g, b))
            axes.box(
                column / count,
                row / count,
                (column + 1) / count,
                (row + 1) / count,
                shade,  # type: ignore[arg-type]
            )
