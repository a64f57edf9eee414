"""Parts of CT slices, and bright vessels drawn into some: so that the vessels tell the contrast medium.

The slices are few, and each is known again by its outline: a model that has learned them by heart says what
it remembers, whatever is drawn. Here the same outline comes with either answer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from sources import Picture, Thing, rng_for
from varied import BLUR, power_greys

PARTS = 24  # of each slice
DRAWN = 12  # of each slice without contrast medium, with vessels in it
TILT = 15.0  # degrees, either way
SHARE = (0.65, 1.1)  # of the slice's side; more than 1 is farther away
GAMMA = (0.85, 1.18)
SOFT = (70, 190)  # greys of soft tissue, in the window in which these slices are published
AIR = 40  # grey below which there is air or fat
LIKE = 25  # how far from the middle grey of soft tissue a place for a vessel may be
LARGE, SMALL = (8, 60), (4, 18)  # pixels: half the width of the first vessel, and of the others
LEVEL = (0.35, 1.0)  # how much of the way to white a vessel takes
TRIES = 60


def contrast_pictures(pictures: list[Picture], folder: Path, seed: int) -> list[Picture]:
    """Parts of the CT slices, as they are and with vessels drawn, saved below ``folder``.

    Args:
        pictures: Of any sets; only slices that say whether contrast medium was given have copies.
        folder: The image root.
        seed: Of every draw.

    Returns:
        ``PARTS`` of each slice, and up to ``DRAWN`` more of each without contrast medium whose label
        says that it was given, with the vessels as things; they stay in the part of their image.
    """
    return [copy for picture in pictures for copy in _copies_of(picture, folder, seed)]


def _copies_of(picture: Picture, folder: Path, seed: int) -> Iterator[Picture]:
    if "contrast" not in picture.labels:
        return
    with Image.open(folder / picture.image) as file:
        image = file.convert("L")
    for number in range(PARTS + (0 if picture.labels["contrast"] else DRAWN)):
        rng = rng_for(seed, "vessels", picture.image, number)
        part, things, labels = part_of(image, rng), [], picture.labels
        if number >= PARTS:
            part, things = with_vessels(part, rng)
            if not things:
                continue
            labels = {**labels, "contrast": True}
        name = f"images/vessels/{Path(picture.image).stem}_{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        as_scanned(part, rng).save(folder / name)
        yield replace(picture, image=name, base=picture.origin, labels=labels, things=things)


def part_of(image: Image.Image, rng: random.Random) -> Image.Image:
    """Mirrored, flipped, tilted and cut, or farther away; of the given size, and black outside."""
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.3:
        image = ImageOps.flip(image)
    tilted = image.rotate(rng.uniform(-TILT, TILT), Image.Resampling.BICUBIC)
    share = rng.uniform(*SHARE)
    width, height = image.size
    left, top = (rng.random() * (1 - share) * side for side in image.size)
    window = (round(left), round(top), round(left + share * width), round(top + share * height))
    return tilted.crop(window).resize(image.size, Image.Resampling.BICUBIC)


def with_vessels(image: Image.Image, rng: random.Random) -> tuple[Image.Image, list[Thing]]:
    """One to four round or oval places in soft tissue made brighter, as contrast medium makes vessels.

    Args:
        image: Grey.
        rng: Of every draw.

    Returns:
        The image and its vessels; none where there is no place for them.
    """
    greys = np.asarray(image, float)
    soft = greys[(greys > SOFT[0]) & (greys < SOFT[1])]
    smooth = np.asarray(image.filter(ImageFilter.GaussianBlur(5)), float)
    middle = float(np.median(soft)) if soft.size else 0.0
    rows, columns = np.nonzero(np.abs(smooth - middle) < LIKE) if soft.size else ((), ())
    number, level, made, things = rng.randint(1, 4), rng.uniform(*LEVEL), greys.copy(), []
    for _ in range(TRIES if len(rows) else 0):
        if len(things) == number:
            break
        at = rng.randrange(len(rows))
        radius = rng.uniform(*(SMALL if things else LARGE))
        distance = _oval(greys.shape, rows[at], columns[at], rng)
        inside = distance < radius
        if np.abs(greys[inside] - middle).mean() > LIKE:
            continue
        share = 1 / (1 + np.exp(np.clip((distance - radius) / 1.2, -30, 30)))
        made += np.where(greys > AIR, share * level * (255 - middle), 0)
        down, across = np.nonzero(inside)
        box = (int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1)
        things.append(Thing("vessel", box))
    return Image.fromarray(np.clip(made, 0, 255).astype(np.uint8)), things


def _oval(shape: tuple[int, ...], row: int, column: int, rng: random.Random) -> np.ndarray:
    """The distance of each pixel from a place, longer along one axis than along the other."""
    down, across = np.mgrid[: shape[0], : shape[1]]
    stretch, turn = rng.uniform(0.7, 1.4), rng.uniform(0, math.pi)
    along = (across - column) * math.cos(turn) + (down - row) * math.sin(turn)
    aside = (down - row) * math.cos(turn) - (across - column) * math.sin(turn)
    distance: np.ndarray = np.hypot(along * stretch, aside / stretch)
    return distance


def as_scanned(image: Image.Image, rng: random.Random) -> Image.Image:
    """Blurred a little, and a little lighter or darker."""
    greys = power_greys(rng.uniform(*GAMMA))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, BLUR))).point(greys)
