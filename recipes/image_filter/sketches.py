"""Hand sketches: wobbly outlines, arrows and scribbled labels on paper, whiteboard or blackboard."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
_PENS = ((20, 20, 30), (25, 40, 130), (60, 60, 60), (160, 25, 30), (20, 110, 50), (90, 50, 20))
_CHALKS = ((245, 245, 240), (250, 230, 150), (170, 210, 250))


def draw_sketch(rng: random.Random) -> Image.Image:
    """One sketch of 300 to 800 pixels."""
    size = (rng.randint(320, 760), rng.randint(300, 700))
    board = rng.random() < 0.12
    page = _paper(size, rng, board)
    ink = rng.sample(_CHALKS if board else _PENS, k=2)
    width = rng.choice((1, 2, 2, 3, 4))
    layer = Image.new("RGB", size, "black")
    mask = Image.new("L", size, 0)
    pen = _Pen(ImageDraw.Draw(layer), ImageDraw.Draw(mask), width, rng)
    subject = rng.choice((_organ, _cells, _flow, _graph, _face, _skeleton))
    subject(pen, size, ink, rng)
    strength = rng.uniform(0.6, 1.0)
    soft = mask.filter(ImageFilter.GaussianBlur(rng.choice((0, 0.5, 0.8)))).point(
        lambda value: round(value * strength)
    )
    page.paste(layer, mask=soft)
    return page


def _paper(size: tuple[int, int], rng: random.Random, board: bool) -> Image.Image:
    base = (
        rng.choice(((28, 52, 42), (30, 30, 34)))
        if board
        else rng.choice(
            ((255, 255, 255), (252, 250, 244), (244, 240, 228), (232, 234, 238), (214, 208, 198))
        )
    )
    page = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(page)
    kind = rng.choice(("plain", "plain", "plain", "lined", "squared"))
    pitch, rule = rng.randint(16, 34), tuple(max(0, value - 28) for value in base)
    if not board and kind != "plain":
        for y in range(pitch, size[1], pitch):
            draw.line((0, y, size[0], y), fill=rule)
        if kind == "squared":
            for x in range(pitch, size[0], pitch):
                draw.line((x, 0, x, size[1]), fill=rule)
    if rng.random() < 0.5:  # photographed or scanned: shade and grain
        values = np.asarray(page, np.float32)
        across = np.linspace(-1, 1, size[0])[None, :] * rng.uniform(-25, 25)
        down = np.linspace(-1, 1, size[1])[:, None] * rng.uniform(-25, 25)
        grain = np.random.default_rng(rng.getrandbits(32)).normal(
            0, rng.uniform(0, 4), values.shape
        )
        values = values + (across + down - 12)[..., None] + grain
        page = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return page


class _Pen:
    """Draws strokes that wander as a hand does."""

    def __init__(
        self, colour: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, width: int, rng: random.Random
    ) -> None:
        self.layers = ((colour, None), (mask, 255))
        self.width = width
        self.rng = rng

    def stroke(
        self, points: Sequence[Point], ink: tuple[int, int, int], wobble: float = 2.0
    ) -> None:
        """Join points by a line with slow wander and fast jitter."""
        path: list[Point] = []
        drift = [0.0, 0.0]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            steps = max(2, int(math.dist((x0, y0), (x1, y1)) / 6))
            for step in range(steps):
                drift = [0.85 * value + self.rng.gauss(0, wobble * 0.35) for value in drift]
                share = step / steps
                path.append((x0 + (x1 - x0) * share + drift[0], y0 + (y1 - y0) * share + drift[1]))
        path.append(points[-1])
        for layer, value in self.layers:
            layer.line(path, fill=ink if value is None else value, width=self.width, joint="curve")

    def loop(
        self, centre: Point, radii: Point, ink: tuple[int, int, int], bumps: float = 0.1
    ) -> None:
        """A closed blob; the ends overshoot a little."""
        phase = [self.rng.uniform(0, 2 * math.pi) for _ in range(3)]
        points = []
        for step in range(41):
            angle = 2 * math.pi * step / 39
            bump = 1 + bumps * sum(math.sin((k + 2) * angle + phase[k]) / (k + 1) for k in range(3))
            points.append(
                (
                    centre[0] + radii[0] * bump * math.cos(angle),
                    centre[1] + radii[1] * bump * math.sin(angle),
                )
            )
        self.stroke(points, ink, 1.0)

    def arrow(self, start: Point, end: Point, ink: tuple[int, int, int]) -> None:
        """A line with two barbs."""
        self.stroke((start, end), ink)
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        for turn in (2.6, -2.6):
            barb = (end[0] + 12 * math.cos(angle + turn), end[1] + 12 * math.sin(angle + turn))
            self.stroke((end, barb), ink, 0.5)

    def scribble(
        self, corner: Point, letters: int, height: float, ink: tuple[int, int, int]
    ) -> None:
        """Something that looks like handwriting."""
        x, y = corner
        points = [(x, y)]
        for _ in range(letters * 3):
            x += self.rng.uniform(0.12, 0.32) * height
            tall = self.rng.choice((0.5, 0.5, 0.6, 1.0))
            points.append((x, y - height * self.rng.uniform(0.0, tall)))
        self.stroke(points, ink, 0.6)

    def hatch(self, centre: Point, radius: float, ink: tuple[int, int, int]) -> None:
        """Parallel strokes as shading."""
        for offset in range(-3, 4):
            shift = offset * radius / 4
            self.stroke(
                (
                    (centre[0] - radius / 2 + shift, centre[1] + radius / 2),
                    (centre[0] + radius / 2 + shift, centre[1] - radius / 2),
                ),
                ink,
                0.8,
            )


Inks = Sequence[tuple[int, int, int]]
_Subject = Callable[[_Pen, tuple[int, int], Inks, random.Random], None]


def _label(pen: _Pen, target: Point, size: tuple[int, int], ink: tuple[int, int, int]) -> None:
    right = pen.rng.random() < 0.5
    x = size[0] * (0.86 if right else 0.04)
    y = min(max(20.0, target[1] + pen.rng.uniform(-60, 60)), size[1] - 10.0)
    pen.stroke((target, (x - 4 if right else x + 60, y)), ink, 1.0)
    pen.scribble((x, y + 6), pen.rng.randint(4, 9), pen.rng.uniform(9, 16), ink)


def _organ(pen: _Pen, size: tuple[int, int], ink: Inks, rng: random.Random) -> None:
    centre = (size[0] * rng.uniform(0.4, 0.6), size[1] * rng.uniform(0.4, 0.6))
    radii = (size[0] * rng.uniform(0.18, 0.32), size[1] * rng.uniform(0.2, 0.36))
    pen.loop(centre, radii, ink[0], 0.18)
    for _ in range(rng.randint(1, 5)):
        inner = (
            centre[0] + rng.uniform(-0.5, 0.5) * radii[0],
            centre[1] + rng.uniform(-0.5, 0.5) * radii[1],
        )
        share = rng.uniform(0.12, 0.4)
        pen.loop(inner, (radii[0] * share, radii[1] * share), ink[0])
        if rng.random() < 0.5:
            pen.hatch(inner, radii[0] * share, ink[1])
        _label(pen, inner, size, ink[1])


def _cells(pen: _Pen, size: tuple[int, int], ink: Inks, rng: random.Random) -> None:
    for _ in range(rng.randint(3, 9)):
        centre = (rng.uniform(0.15, 0.85) * size[0], rng.uniform(0.15, 0.85) * size[1])
        radius = rng.uniform(0.05, 0.14) * min(size)
        pen.loop(centre, (radius, radius * rng.uniform(0.7, 1.3)), ink[0], 0.08)
        pen.loop(centre, (radius / 3, radius / 3), ink[1])
        if rng.random() < 0.4:
            _label(pen, centre, size, ink[0])


def _flow(pen: _Pen, size: tuple[int, int], ink: Inks, rng: random.Random) -> None:
    columns, rows = rng.randint(1, 3), rng.randint(2, 4)
    wide, high = size[0] / columns, size[1] / rows
    for column in range(columns):
        for row in range(rows):
            x, y = (column + 0.5) * wide, (row + 0.5) * high
            a, b = wide * 0.34, high * 0.24
            pen.stroke(
                ((x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b), (x - a, y - b)),
                ink[0],
            )
            pen.scribble((x - a * 0.8, y + 5), rng.randint(4, 8), min(16.0, b), ink[1])
            if row:
                pen.arrow((x, y - high + b), (x, y - b), ink[0])


def _graph(pen: _Pen, size: tuple[int, int], ink: Inks, rng: random.Random) -> None:
    left, bottom = size[0] * 0.12, size[1] * 0.86
    pen.arrow((left, bottom), (left, size[1] * 0.1), ink[0])
    pen.arrow((left, bottom), (size[0] * 0.92, bottom), ink[0])
    for _ in range(rng.randint(1, 3)):
        level = rng.uniform(0.2, 0.7)
        points = []
        for step in range(8):
            level = min(0.95, max(0.05, level + rng.uniform(-0.2, 0.2)))
            points.append((left + size[0] * 0.1 * step, bottom - level * size[1] * 0.7))
        pen.stroke(points, ink[1])
    pen.scribble((size[0] * 0.6, bottom + 24), 7, 13, ink[0])
    pen.scribble((left + 6, size[1] * 0.1), 5, 13, ink[0])


def _face(pen: _Pen, size: tuple[int, int], ink: Inks, rng: random.Random) -> None:
    """A head in section, as drawn on a ward round."""
    x, y, radius = size[0] / 2, size[1] * 0.45, min(size) * rng.uniform(0.24, 0.34)
    pen.loop((x, y), (radius * 0.8, radius), ink[0], 0.05)
    pen.loop((x, y - radius * 0.15), (radius * 0.6, radius * 0.65), ink[0], 0.16)
    pen.stroke(((x, y - radius * 0.75), (x, y + radius * 0.4)), ink[0])
    for side in (-1, 1):
        spot = (x + side * radius * 0.3, y + rng.uniform(-0.3, 0.2) * radius)
        pen.loop(spot, (radius * 0.12, radius * 0.18), ink[1])
        if rng.random() < 0.6:
            _label(pen, spot, size, ink[1])


def _skeleton(pen: _Pen, size: tuple[int, int], ink: Inks, rng: random.Random) -> None:
    """Ribs and a spine."""
    x, top, step = size[0] / 2, size[1] * 0.12, size[1] * rng.uniform(0.07, 0.1)
    pen.stroke(((x, top), (x, size[1] * 0.9)), ink[0])
    for rib in range(rng.randint(4, 8)):
        y, reach = top + (rib + 1) * step, size[0] * (0.14 + 0.02 * rib)
        for side in (-1, 1):
            pen.stroke(
                ((x, y), (x + side * reach, y + step), (x + side * reach * 0.7, y + 2 * step)),
                ink[0],
            )
    for _ in range(rng.randint(1, 3)):
        _label(
            pen,
            (x + rng.uniform(-0.2, 0.2) * size[0], top + rng.uniform(1, 6) * step),
            size,
            ink[1],
        )
