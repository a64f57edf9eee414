"""Draw arrows whose tip decides the answer, and ask what, where and which way they point."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from pictures import Picture, PixelBox, Thing
from PIL import Image, ImageDraw
from things import Question, quadrant

COLOURS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "yellow": (255, 221, 0),
    "red": (225, 20, 20),
    "green": (20, 190, 60),
    "blue": (30, 70, 235),
}
# What a source's objects are, and what lies between them.
TARGETS = {
    "blood_cells": ("white blood cell", "red blood cell", "platelet", "background"),
    "endoscopy": ("polyp", "normal mucosa"),
    "nuclei": ("nucleus", "background"),
}
DIRECTIONS = {"right": 0.0, "down": 90.0, "left": 180.0, "up": 270.0}
WHAT = (
    "What does the {c}arrow point to?",
    "What is the {c}arrow pointing to?",
    "What does the {c}arrow indicate?",
    "What is at the tip of the {c}arrow?",
    "Which structure does the {c}arrow point at?",
)
WHERE = (
    "Where does the {c}arrow point?",
    "In which quadrant is the tip of the {c}arrow?",
    "Which part of the image does the {c}arrow point to?",
)
WHICH_WAY = ("In which direction does the {c}arrow point?", "Which way does the {c}arrow point?")
LEAST_CONTRAST = 14  # of 255, between cells and background
SCALE = 4  # arrows are drawn enlarged and reduced again, for smooth edges


@dataclass(frozen=True)
class Arrow:
    """An arrow that ends at ``tip`` after flying along ``angle`` (degrees, clockwise from right)."""

    tip: tuple[float, float]
    angle: float
    length: float
    width: float
    head: float
    outlined: bool
    colour: str = "white"
    target: str = ""

    @property
    def tail(self) -> tuple[float, float]:
        """Where it starts."""
        turn = math.radians(self.angle)
        return (
            self.tip[0] - self.length * math.cos(turn),
            self.tip[1] - self.length * math.sin(turn),
        )

    def outline(self) -> list[tuple[float, float]]:
        """The corners of shaft and head, the tip first."""
        turn = math.radians(self.angle)
        along, across = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
        half, neck = self.width / 2, -self.head
        shape = [(0, 0), (neck, self.head * 0.45), (neck, half), (-self.length, half)]
        shape += [(x, -y) for x, y in reversed(shape[1:])]
        return [
            (
                self.tip[0] + x * along[0] + y * across[0],
                self.tip[1] + x * along[1] + y * across[1],
            )
            for x, y in shape
        ]

    def box(self, size: tuple[int, int]) -> PixelBox:
        """The box around the whole arrow, within an image of this size."""
        across, down = zip(*self.outline(), strict=True)
        return _within((min(across), min(down), max(across), max(down)), size)

    def tip_box(self, size: tuple[int, int]) -> PixelBox:
        """The box around the head and as much beyond the tip, within an image of this size."""
        (x, y), reach = self.tip, self.head
        return _within((x - reach, y - reach, x + reach, y + reach), size)


def _within(box: PixelBox, size: tuple[int, int]) -> PixelBox:
    return (
        max(0.0, box[0]),
        max(0.0, box[1]),
        min(float(size[0]), box[2]),
        min(float(size[1]), box[3]),
    )


def draw(image: Image.Image, arrows: list[Arrow]) -> Image.Image:
    """The image in RGB with the arrows on it; the tips lie exactly where they say."""
    picture = image.convert("RGB")
    for arrow in arrows:
        corners = arrow.outline()
        light = sum(COLOURS[arrow.colour]) > 300
        if arrow.outlined:
            rim = max(2, round(arrow.width * 0.5))
            _fill(picture, corners, (0, 0, 0) if light else (255, 255, 255), rim)
        _fill(picture, corners, COLOURS[arrow.colour], rim=0)
    return picture


def _fill(
    picture: Image.Image, corners: list[tuple[float, float]], colour: tuple[int, int, int], rim: int
) -> None:
    """Paint the polygon, widened by half of ``rim`` pixels, with smooth edges."""
    left, top, right, bottom = box = _pixel_box(picture.size, corners, rim)
    mask = Image.new("L", ((right - left) * SCALE, (bottom - top) * SCALE), 0)
    moved = [((x - left) * SCALE, (y - top) * SCALE) for x, y in corners]
    pen = ImageDraw.Draw(mask)
    pen.polygon(moved, fill=255)
    if rim:
        pen.line([*moved, moved[0], moved[1]], fill=255, width=rim * SCALE, joint="curve")
    mask = mask.resize((right - left, bottom - top), Image.Resampling.BOX)
    picture.paste(colour, box, mask)


def _pixel_box(
    size: tuple[int, int], corners: list[tuple[float, float]], rim: int
) -> tuple[int, int, int, int]:
    across, down = [x for x, _ in corners], [y for _, y in corners]
    room = 1 + rim
    return (
        max(0, math.floor(min(across)) - room),
        max(0, math.floor(min(down)) - room),
        min(size[0], math.ceil(max(across)) + room),
        min(size[1], math.ceil(max(down)) + room),
    )


class TipFinder:
    """Finds points that clearly lie on an object of a picture, or clearly on none."""

    def __init__(self, picture: Picture, image: Image.Image) -> None:
        self.picture = picture
        self.targets = TARGETS.get(picture.source, ())
        self.pixels = np.asarray(image.convert("RGB"))  # (height, width, 3) uint8

    @cached_property
    def clear(self) -> list[Thing]:
        """The objects that an arrow can point at without doubt."""
        return [thing for thing in self.picture.things if self._is_clear(thing)]

    def _is_clear(self, thing: Thing) -> bool:
        """Big enough, off the border, its middle in no other object's box."""
        left, top, right, bottom = thing.box
        width, height = self.picture.size
        least = 0.05 if thing.name == "nucleus" else 0.028
        if min(right - left, bottom - top) < least * min(width, height):
            return False
        if left < 2 or top < 2 or right > width - 2 or bottom > height - 2:
            return thing.name == "polyp"
        others = (other for other in self.picture.things if other is not thing)
        return not any(other.contains(*thing.centre, margin=2) for other in others)

    @cached_property
    def threshold(self) -> float:
        """Halfway between the green values of the cells' middles and of the free area."""
        inside = [self._green(*thing.centre) for thing in self.clear]
        free = np.ones(self.pixels.shape[:2], bool)
        for thing in self.picture.things:
            left, top, right, bottom = thing.box
            free[top:bottom, left:right] = False
        if not inside or free.mean() < 0.02:
            return math.nan
        cells, rest = float(np.median(inside)), float(np.median(self.pixels[..., 1][free]))
        # Where they hardly differ nobody could tell cell from background.
        return (cells + rest) / 2 if abs(cells - rest) > LEAST_CONTRAST else math.nan

    def _green(self, x: float, y: float, reach: int = 3) -> float:
        column, row = round(x), round(y)
        patch = self.pixels[
            max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ]
        return float(patch[..., 1].mean()) if patch.size else math.nan

    def names(self) -> list[str]:
        """The targets that this picture offers."""
        names = [name for name in self.targets if any(thing.name == name for thing in self.clear)]
        if self.picture.source == "endoscopy":
            return [*names, "normal mucosa"] if names else []
        return [*names, "background"] if names and not math.isnan(self.threshold) else []

    def find(self, name: str, angle: float, rng: random.Random) -> tuple[float, float] | None:
        """A tip for an arrow that flies along ``angle`` and points to ``name``."""
        if name in ("background", "normal mucosa"):
            return self._free_tip(rng)
        turn = math.radians(angle)
        for thing in rng.sample(self.clear, len(self.clear)):
            if thing.name != name or not self._looks_like(thing):
                continue
            left, top, right, bottom = thing.box
            # On the near side of the object, so that the arrow does not hide it.
            depth = rng.uniform(0.15, 0.55)
            x = thing.centre[0] - depth * math.cos(turn) * (right - left) / 2
            y = thing.centre[1] - depth * math.sin(turn) * (bottom - top) / 2
            return x, y
        return None

    def _looks_like(self, thing: Thing) -> bool:
        """Fluorescent nuclei are bright, stained cells are dark: a box may miss its object."""
        if thing.name == "polyp" or math.isnan(self.threshold):
            return True
        bright = self.picture.labels["modality"].startswith("fluorescence")
        return (self._green(*thing.centre) > self.threshold) == bright

    def _free_tip(self, rng: random.Random) -> tuple[float, float] | None:
        width, height = self.picture.size
        margin = 0.025 * max(width, height)
        for _ in range(60):
            x, y = rng.uniform(0.06, 0.94) * width, rng.uniform(0.06, 0.94) * height
            if any(thing.contains(x, y, margin) for thing in self.picture.things):
                continue
            if self._is_free(x, y):
                return x, y
        return None

    def _is_free(self, x: float, y: float) -> bool:
        if self.picture.source == "endoscopy":
            column, row = round(x), round(y)
            patch = self.pixels[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
            red, green, blue = patch.reshape(-1, 3).mean(0)
            # Lit mucosa: neither the dark frame, nor a highlight, nor the green or blue inset.
            return red > 70 and red > 1.2 * green and red > 1.2 * blue and patch.min(2).max() < 235
        bright = self.picture.labels["modality"].startswith("fluorescence")
        return (self._green(x, y, 5) > self.threshold) != bright


def random_arrow(
    tip: tuple[float, float], angle: float, picture: Picture, rng: random.Random
) -> Arrow:
    """An arrow of random length and width that ends at the tip."""
    unit = min(picture.size)
    width = unit * rng.uniform(0.014, 0.026)
    head = width * rng.uniform(3.0, 4.0)
    length = max(head * 1.3, unit * rng.uniform(0.13, 0.32))
    return Arrow(tip, angle, length, width, head, outlined=rng.random() < 0.7)


def visible(arrow: Arrow, picture: Picture) -> bool:
    """Whether tip and at least the near half of the arrow lie inside the image."""
    width, height = picture.size
    middle = [(arrow.tip[i] + arrow.tail[i]) / 2 for i in (0, 1)]
    points = [arrow.tip, middle, arrow.tail]
    return all(-4 <= x <= width + 4 and -4 <= y <= height + 4 for x, y in points)


def apart(first: Arrow, second: Arrow) -> bool:
    """Whether neither arrow comes near the other's tip, so that each can be read."""
    steps = [i / 8 for i in range(9)]
    for one, other in ((first, second), (second, first)):
        for step in steps:
            x = other.tip[0] + step * (other.tail[0] - other.tip[0])
            y = other.tip[1] + step * (other.tail[1] - other.tip[1])
            if math.hypot(x - one.tip[0], y - one.tip[1]) < 1.6 * one.head:
                return False
    return True


def pick_colour(image: Image.Image, points: list[tuple[float, float]], rng: random.Random) -> str:
    """A colour that differs from what is around each of the points."""
    far = list(COLOURS)
    for x, y in points:
        box = (round(x) - 12, round(y) - 12, round(x) + 12, round(y) + 12)
        around = np.asarray(image.crop(box).convert("RGB"), float).reshape(-1, 3).mean(0)
        near = {n for n, rgb in COLOURS.items() if np.abs(np.array(rgb) - around).sum() < 180}
        far = [name for name in far if name not in near] or far
    common = [name for name in far if name in ("white", "black", "yellow", "red")]
    return rng.choice(common + far)


def aim(finder: TipFinder, image: Image.Image, name: str, rng: random.Random) -> Arrow | None:
    """An arrow that points to ``name``, or to any place when ``name`` is empty."""
    picture = finder.picture
    for _ in range(12):
        angle = rng.uniform(0, 360)
        if name:
            tip = finder.find(name, angle, rng)
        else:
            # Off the middle lines, so that the quadrant can be named.
            across, down = (
                rng.choice((rng.uniform(0.06, 0.38), rng.uniform(0.62, 0.94))) for _ in "xy"
            )
            tip = (across * picture.size[0], down * picture.size[1])
            angle = _near_axis(angle)
        if tip is None:
            return None
        arrow = random_arrow(tip, angle, picture, rng)
        if visible(arrow, picture):
            colour = pick_colour(image, [arrow.tip, arrow.tail], rng)
            return replace(arrow, target=name, colour=colour)
    return None


def _near_axis(angle: float) -> float:
    """Turn the angle towards the nearest of right, down, left and up, so that it can be named."""
    axis = round(angle / 90) * 90
    return axis + (angle - axis) * 0.5


def direction(angle: float) -> str:
    """``"up"`` and so on; empty when the arrow flies more than 25 degrees off the axis."""
    for name, axis in DIRECTIONS.items():
        if abs((angle - axis + 180) % 360 - 180) <= 25:
            return name
    return ""


def arrow_questions(
    arrows: list[Arrow], picture: Picture, rng: random.Random
) -> Iterator[Question]:
    """What each arrow points to, or where and which way when that is unknown."""
    for arrow in arrows:
        colour = f"{arrow.colour} " if len(arrows) > 1 else rng.choice(("", f"{arrow.colour} "))
        whole, tip = (arrow.box(picture.size),), (arrow.tip_box(picture.size),)
        if arrow.target:
            ask = rng.choice(WHAT).format(c=colour)
            topic = f"arrow {picture.source}"
            yield Question("arrow", topic, ask, arrow.target, seen_in=tip)
            if len(arrows) == 1 and rng.random() < 0.5:
                others = [name for name in TARGETS[picture.source] if name != arrow.target]
                named = rng.choice((arrow.target, rng.choice(others)))
                ask = f"Does the {colour}arrow point to {with_article(named)}?"
                answer = "yes" if named == arrow.target else "no"
                yield Question("arrow", f"{topic} {named}", ask, answer, True, tip)
        if not arrow.target or rng.random() < 0.25:
            place = quadrant(*arrow.tip, picture.size)
            if place:
                ask = rng.choice(WHERE).format(c=colour)
                yield Question("arrow_where", "arrow_where", ask, place, seen_in=whole)
            if way := direction(arrow.angle):
                ask = rng.choice(WHICH_WAY).format(c=colour)
                yield Question("arrow_direction", "arrow_direction", ask, way, seen_in=whole)
    if picture.source != "vqa_rad":
        yield presence_question(picture, "yes", tuple(a.box(picture.size) for a in arrows))
    if len(arrows) == 1 and rng.random() < 0.3:
        ask = rng.choice(("What colour is the arrow?", "What color is the arrow?"))
        shown = (arrows[0].box(picture.size),)
        yield Question("arrow_colour", "arrow_colour", ask, arrows[0].colour, seen_in=shown)


def presence_question(
    picture: Picture, answer: str, seen_in: tuple[PixelBox, ...] = ()
) -> Question:
    """Whether there is an arrow; not for VQA-RAD, where some images came with arrows."""
    topic = f"arrow_presence {picture.source}"
    ask = "Is there an arrow in the image?"
    return Question("arrow_presence", topic, ask, answer, True, seen_in)


def with_article(name: str) -> str:
    """``"a polyp"``, ``"the background"``, ``"normal mucosa"``."""
    return {"background": "the background", "normal mucosa": name}.get(name, f"a {name}")
