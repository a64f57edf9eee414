"""The same slice as another scanner might have given it: where a set has few images, each several times."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageFilter
from sources import Picture, rng_for

# The grey of a CT slice tells whether contrast was given, and stays.
GREY_MAY_CHANGE = {"heads": True, "oct": True, "ct_contrast": False}
COPIES = 4
TILT = 12.0  # degrees, either way
ZOOM = (0.8, 1.15)
GAMMA = (0.6, 1.6)
BLUR = 1.2  # pixels, at most


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
        if picture.source not in GREY_MAY_CHANGE:
            continue
        with Image.open(folder / picture.image) as file:
            image = file.convert("L")
        for number in range(COPIES):
            rng = rng_for(seed, "varied", picture.image, number)
            name = f"images/varied/{picture.source}_{Path(picture.image).stem}_{number}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            varied(image, GREY_MAY_CHANGE[picture.source], rng).save(folder / name)
            made.append(replace(picture, image=name, base=picture.origin))
    return made


def varied(image: Image.Image, grey: bool, rng: random.Random) -> Image.Image:
    """Tilted, nearer or farther, blurred a little, and lighter or darker if ``grey`` allows it.

    Args:
        image: Grey.
        grey: Whether the greys between black and white may change.
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
    made = made.filter(ImageFilter.GaussianBlur(rng.uniform(0, BLUR)))
    gamma = rng.uniform(*GAMMA)
    return (
        made.point([round(255 * (value / 255) ** gamma) for value in range(256)]) if grey else made
    )
