"""What papers do to a clean picture without polluting it: arrows, letters, frames, false colours."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFont, ImageOps

_INKS = ("white", "white", "black", "yellow", "red", "cyan", "lime")
_WORDS = (
    "L",
    "R",
    "A",
    "B",
    "a",
    "T1",
    "T2",
    "FLAIR",
    "20x",
    "50 µm",
    "1 cm",
    "Day 7",
    "Control",
    "*",
)


def annotate(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A cropped, recoloured or framed copy with up to four marks.

    Args:
        picture: An RGB picture.
        rng: Decides.

    Returns:
        An RGB picture of 200 to 640 pixels.
    """
    wide, high = (rng.uniform(0.7, 1) * size for size in picture.size)
    copy = _cut(picture, wide, high, rng)
    if rng.random() < 0.25:
        copy = ImageOps.grayscale(copy).convert("RGB")
    if rng.random() < 0.2:
        copy = ImageOps.mirror(copy)
    if rng.random() < 0.1:
        copy = ImageOps.invert(copy)
    draw = ImageDraw.Draw(copy)
    for _ in range(rng.randint(0, 4)):
        rng.choice((_arrow, _arrow, _word, _scale_bar, _ring))(draw, copy.size, rng)
    if rng.random() < 0.4:
        frame = rng.choice((2, 6, 15, 40))
        copy = ImageOps.expand(copy, frame, rng.choice(("white", "white", "black", "#cccccc")))
    if rng.random() < 0.2:
        copy = _headed(copy, rng)
    return _exposed(copy, rng) if rng.random() < 0.4 else copy


def recolour(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A part of a picture in other colours: a stain, a fluorescent dye, a colour map, a negative.

    What a picture shows does not depend on its palette, and six folders have few palettes.

    Args:
        picture: An RGB picture.
        rng: Decides.

    Returns:
        An RGB picture of 200 to 640 pixels.
    """
    share = rng.uniform(0.35, 1)
    part = _cut(picture, share * picture.width, share * picture.height, rng)
    if rng.random() < 0.5:
        part = ImageOps.invert(part)
    if rng.random() < 0.7:
        grey = ImageOps.autocontrast(ImageOps.grayscale(part), cutoff=rng.choice((0, 1, 5)))
        dark = rng.choice(((0, 0, 0), (0, 0, 0), tuple(rng.randint(0, 60) for _ in range(3))))
        light = (rng.randint(20, 255), rng.randint(20, 255), rng.randint(20, 255))
        part = ImageOps.colorize(grey, dark, light)
    else:
        bands = list(part.split())
        rng.shuffle(bands)
        part = Image.merge("RGB", bands)
    return _exposed(part, rng)


def _cut(picture: Image.Image, wide: float, high: float, rng: random.Random) -> Image.Image:
    """A part of this size from anywhere in the picture, 200 to 640 pixels wide."""
    left, top = rng.uniform(0, picture.width - wide), rng.uniform(0, picture.height - high)
    side = rng.randint(200, 640)
    size = (side, max(80, round(side * high / wide)))
    return picture.resize(size, Image.Resampling.BICUBIC, (left, top, left + wide, top + high))


def _arrow(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    x, y = rng.uniform(0.15, 0.85) * size[0], rng.uniform(0.15, 0.85) * size[1]
    angle, length, head = rng.uniform(0, 2 * math.pi), rng.uniform(20, 70), rng.uniform(7, 16)
    ink = rng.choice(_INKS)
    back = (x - length * math.cos(angle), y - length * math.sin(angle))
    draw.line((back, (x, y)), fill=ink, width=rng.choice((2, 3, 4)))
    barbs = [
        (x - head * math.cos(angle + turn), y - head * math.sin(angle + turn))
        for turn in (0.5, -0.5)
    ]
    draw.polygon(((x, y), *barbs), fill=ink)


def _word(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    place = (rng.choice((4, 0.8 * size[0])), rng.choice((4, 0.88 * size[1])))
    font = ImageFont.load_default(rng.randint(11, 30))
    draw.text(place, rng.choice(_WORDS), fill=rng.choice(_INKS), font=font)


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    right, y = 0.95 * size[0], 0.94 * size[1]
    left = right - rng.uniform(0.1, 0.3) * size[0]
    draw.line((left, y, right, y), fill=rng.choice(_INKS), width=rng.choice((3, 5)))


def _ring(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    x, y = rng.uniform(0.2, 0.8) * size[0], rng.uniform(0.2, 0.8) * size[1]
    a, b = rng.uniform(10, 60), rng.uniform(10, 60)
    shape = draw.ellipse if rng.random() < 0.6 else draw.rectangle
    shape((x - a, y - b, x + a, y + b), outline=rng.choice(_INKS), width=rng.choice((2, 3)))


def _exposed(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Darker, paler, or tinted, as microscopes and screens leave it."""
    gains = [rng.uniform(0.4, 1.1)] * 3
    if rng.random() < 0.3:
        gains = [gain * rng.uniform(0.3, 1) for gain in gains]
    floor, gamma = rng.choice((0, 0, 0, 20, 60)), rng.choice((0.7, 1, 1, 1.5, 2.2))
    tables = [
        round(min(255, floor + (255 - floor) * gain * (value / 255) ** gamma))
        for gain in gains
        for value in range(256)
    ]
    return picture.point(tables)


def _headed(picture: Image.Image, rng: random.Random) -> Image.Image:
    high = rng.randint(16, 34)
    page = Image.new("RGB", (picture.width, picture.height + high), "white")
    page.paste(picture, (0, high))
    text = " ".join(
        rng.choices(("Axial CT", "Before", "H&E", "Patient 3", "Contrast", "x200"), k=2)
    )
    ImageDraw.Draw(page).text((6, 1), text, fill="black", font=ImageFont.load_default(high - 8))
    return page
