"""The same slice as another scanner might have given it: where a set has few images, each several times."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from sources import Picture, rng_for

Greys = Callable[[random.Random], list[int]]  # draws the new grey of each of the 256
KNOTS = 4  # greys, besides white, for which other_greys draws a new one
COPIES = 4
TILT = 12.0  # degrees, either way
ZOOM = (0.8, 1.15)
GAMMA = (0.6, 1.6)
BLUR = 1.2  # pixels, at most


def same_greys(rng: random.Random) -> list[int]:
    """All greys stay."""
    return list(range(256))


def power_greys(gamma: float) -> list[int]:
    """What is lighter than another stays lighter; black and white stay."""
    return [round(255 * (grey / 255) ** gamma) for grey in range(256)]


def gamma_greys(rng: random.Random) -> list[int]:
    """All lighter or darker, in their order."""
    return power_greys(rng.uniform(*GAMMA))


def other_greys(rng: random.Random) -> list[int]:
    """Any tissue may become lighter or darker than any other; black, the air around, stays.

    What holds whatever the greys are is the shape; so it may hold for another scanner's as well.
    """
    knots = [0.0, *sorted(rng.random() for _ in range(KNOTS)), 1.0]
    levels = [0.0, *(rng.random() for _ in range(KNOTS + 1))]
    return [round(255 * float(np.interp(grey / 255, knots, levels))) for grey in range(256)]


# The grey of a CT slice tells whether contrast was given; the layers of a retina are told by theirs.
GREYS: dict[str, Greys] = {"heads": other_greys, "oct": gamma_greys, "ct_contrast": same_greys}


def varied_pictures(pictures: list[Picture], folder: Path, seed: int) -> list[Picture]:
    """Copies of the pictures of small sets without boxes, saved below ``folder``.

    Args:
        pictures: Of any sets; those of other sets have no copies.
        folder: The image root.
        seed: Of every draw.

    Returns:
        ``COPIES`` of each picture, with its labels; they stay in the part of their image.
    """
    made = []
    for picture in pictures:
        if picture.source not in GREYS:
            continue
        with Image.open(folder / picture.image) as file:
            image = file.convert("L")
        for number in range(COPIES):
            rng = rng_for(seed, "varied", picture.image, number)
            name = f"images/varied/{picture.source}_{Path(picture.image).stem}_{number}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            varied(image, GREYS[picture.source], rng).save(folder / name)
            made.append(replace(picture, image=name, base=picture.origin))
    return made


def varied(image: Image.Image, greys: Greys, rng: random.Random) -> Image.Image:
    """Tilted, nearer or farther, blurred a little, and in other greys.

    Args:
        image: Grey.
        greys: Draws the new greys.
        rng: Of every draw.

    Returns:
        A grey image of the same size; what lies outside the given one is black.
    """
    tilted = image.rotate(rng.uniform(-TILT, TILT), Image.Resampling.BICUBIC)
    width, height = image.size
    zoom = rng.uniform(*ZOOM)
    left, top = (width - width / zoom) / 2, (height - height / zoom) / 2
    matrix = (1 / zoom, 0, left, 0, 1 / zoom, top)
    made = tilted.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )
    return made.filter(ImageFilter.GaussianBlur(rng.uniform(0, BLUR))).point(greys(rng))
