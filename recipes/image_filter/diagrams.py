"""Drawings by computer: flow charts, networks, molecules, labelled schemes, and pages of printed text."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]
_WORDS = [
    "screening",
    "enrolled",
    "randomised",
    "allocation",
    "excluded",
    "analysed",
    "follow-up",
    "baseline",
    "patients",
    "cells",
    "nucleus",
    "membrane",
    "receptor",
    "ligand",
    "kinase",
    "plasma",
    "serum",
    "cortex",
    "medulla",
    "lesion",
    "biopsy",
    "imaging",
    "staining",
    "extraction",
    "encoder",
    "decoder",
    "attention",
    "features",
    "prediction",
    "loss",
    "training",
    "cohort",
    "model",
    "output",
    "input",
    "signal",
    "pathway",
]
_FILLS: tuple[Colour, ...] = (
    (255, 255, 255),
    (222, 235, 247),
    (229, 245, 224),
    (254, 230, 206),
    (239, 237, 245),
    (255, 247, 188),
    (252, 187, 161),
)


def draw_diagram(rng: random.Random) -> Image.Image:
    """One drawing of 280 to 800 pixels."""
    size = (rng.randint(300, 800), rng.randint(280, 700))
    dark = rng.random() < 0.1
    page = Image.new(
        "RGB", size, (28, 30, 36) if dark else rng.choice(((255, 255, 255),) * 4 + _FILLS)
    )
    pen = _Pen(page, (230, 230, 230) if dark else rng.choice(((0, 0, 0), (50, 50, 60))), rng)
    rng.choice((_flow_chart, _network, _molecule, _scheme, _text_page, _layers))(pen)
    return page


class _Pen:
    """Draws straight lines, shapes and words in one style."""

    def __init__(self, page: Image.Image, ink: Colour, rng: random.Random) -> None:
        self.draw = ImageDraw.Draw(page)
        self.width, self.height = page.size
        self.ink, self.rng = ink, rng
        self.stroke = rng.choice((1, 1, 2, 3))
        self.font = ImageFont.load_default(rng.randint(10, 18))
        self.fills = rng.sample(_FILLS, k=3)

    def words(self, count: int) -> str:
        """Some words."""
        return " ".join(self.rng.choices(_WORDS, k=count))

    def text(self, place: Point, text: str, ink: Colour | None = None) -> None:
        """A line of text around a place."""
        self.draw.text(place, text, fill=ink or self.ink, font=self.font, anchor="mm")

    def box(self, centre: Point, wide: float, high: float, round_by: float = 0) -> None:
        """A filled box with an outline."""
        corners = (
            centre[0] - wide / 2,
            centre[1] - high / 2,
            centre[0] + wide / 2,
            centre[1] + high / 2,
        )
        fill = self.rng.choice(self.fills)
        self.draw.rounded_rectangle(
            corners, round_by, fill=fill, outline=self.ink, width=self.stroke
        )

    def disc(self, centre: Point, radii: Point, fill: Colour | None) -> None:
        """An ellipse."""
        corners = (
            centre[0] - radii[0],
            centre[1] - radii[1],
            centre[0] + radii[0],
            centre[1] + radii[1],
        )
        self.draw.ellipse(corners, fill=fill, outline=self.ink, width=self.stroke)

    def arrow(self, start: Point, end: Point) -> None:
        """A line with a filled head."""
        self.draw.line((start, end), fill=self.ink, width=self.stroke)
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        size = 6 + 2 * self.stroke
        barbs = [
            (end[0] - size * math.cos(angle + turn), end[1] - size * math.sin(angle + turn))
            for turn in (0.4, -0.4)
        ]
        self.draw.polygon((end, *barbs), fill=self.ink)


def _flow_chart(pen: _Pen) -> None:
    rng = pen.rng
    columns, rows = rng.randint(1, 3), rng.randint(2, 5)
    wide, high, round_by = pen.width / columns, pen.height / rows, rng.choice((0, 0, 8, 20))
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.5) * wide, (row + 0.5) * high
            if row:
                pen.arrow((x, y - 0.72 * high), (x, y - 0.28 * high))
            if column and rng.random() < 0.5:
                pen.arrow((x - 0.62 * wide, y), (x - 0.38 * wide, y))
            pen.box((x, y), 0.76 * wide, 0.56 * high, round_by)
            pen.text((x, y - 8), pen.words(2), (20, 20, 20))
            pen.text((x, y + 10), f"n = {rng.randint(5, 900)}", (20, 20, 20))


def _network(pen: _Pen) -> None:
    rng = pen.rng
    nodes = [
        (rng.uniform(0.1, 0.9) * pen.width, rng.uniform(0.1, 0.9) * pen.height)
        for _ in range(rng.randint(6, 22))
    ]
    for node in nodes:
        for other in rng.sample(nodes, k=2):
            pen.draw.line((node, other), fill=pen.ink, width=pen.stroke)
    radius, named = rng.uniform(6, 30), rng.random() < 0.7
    for node in nodes:
        pen.disc(node, (radius, radius), rng.choice(pen.fills))
        if named:
            pen.text(node, rng.choice(_WORDS)[:5].upper(), (20, 20, 20))


def _molecule(pen: _Pen) -> None:
    """Rings in a row, with bonds and groups."""
    rng = pen.rng
    for _ in range(rng.randint(1, 4)):
        radius = rng.uniform(0.05, 0.12) * min(pen.width, pen.height)
        x, y = rng.uniform(0.15, 0.5) * pen.width, rng.uniform(0.15, 0.85) * pen.height
        for ring in range(rng.randint(1, 4)):
            centre = (x + ring * radius * math.sqrt(3), y)
            corners = [
                (
                    centre[0] + radius * math.sin(k * math.pi / 3),
                    centre[1] + radius * math.cos(k * math.pi / 3),
                )
                for k in range(7)
            ]
            pen.draw.line(corners, fill=pen.ink, width=pen.stroke)
            if rng.random() < 0.5:
                pen.disc(centre, (radius * 0.6, radius * 0.6), None)
            corner = rng.choice(corners)
            away = (corner[0] * 2 - centre[0], corner[1] * 2 - centre[1])
            pen.draw.line((corner, away), fill=pen.ink, width=pen.stroke)
            pen.text(away, rng.choice(("OH", "NH2", "CH3", "O", "N", "Cl", "COOH")))


def _scheme(pen: _Pen) -> None:
    """Smooth shapes within each other, each with a name at the side, as in a textbook."""
    rng = pen.rng
    centre = (pen.width * rng.uniform(0.4, 0.6), pen.height * rng.uniform(0.4, 0.6))
    radii = (pen.width * rng.uniform(0.2, 0.36), pen.height * rng.uniform(0.2, 0.4))
    filled = rng.random() < 0.6
    pen.disc(centre, radii, rng.choice(pen.fills) if filled else None)
    for number in range(rng.randint(2, 7)):
        spot = (
            centre[0] + rng.uniform(-0.6, 0.6) * radii[0],
            centre[1] + rng.uniform(-0.6, 0.6) * radii[1],
        )
        share = rng.uniform(0.06, 0.35)
        pen.disc(
            spot, (radii[0] * share, radii[1] * share), rng.choice(pen.fills) if filled else None
        )
        name = (pen.width * (0.08 if number % 2 else 0.9), pen.height * rng.uniform(0.06, 0.94))
        pen.draw.line((spot, name), fill=pen.ink, width=1)
        pen.text(name, pen.words(1))


def _text_page(pen: _Pen) -> None:
    """Printed paragraphs, perhaps in two columns."""
    rng = pen.rng
    columns, pitch = rng.randint(1, 2), pen.font.size * rng.uniform(1.2, 1.7)  # type: ignore[union-attr]
    wide = pen.width / columns
    for column in range(columns):
        y = rng.uniform(0.5, 2) * pitch
        while y < pen.height - pitch:
            if rng.random() < 0.88:
                line = pen.words(40)
                while pen.font.getlength(line) > wide * 0.9:
                    line = line.rpartition(" ")[0] or line[:-1]
                pen.draw.text((column * wide + 0.05 * wide, y), line, fill=pen.ink, font=pen.font)
            y += pitch


def _layers(pen: _Pen) -> None:
    """Blocks of falling height joined by arrows, as neural networks are shown."""
    rng = pen.rng
    count = rng.randint(3, 9)
    step = pen.width / count
    for number in range(count):
        x, y = (number + 0.5) * step, pen.height * rng.uniform(0.45, 0.55)
        high = pen.height * rng.uniform(0.2, 0.7)
        for sheet in range(rng.randint(1, 4), 0, -1):
            pen.box((x + 4 * sheet, y - 4 * sheet), step * 0.4, high)
        pen.text((x, y + high / 2 + 12), str(2 ** rng.randint(3, 10)))
        if number:
            pen.arrow((x - 0.75 * step, y), (x - 0.25 * step, y))
