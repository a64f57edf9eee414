"""Cut parts out of boxed images: the same style with other counts and other places."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from pictures import Picture, Thing, rng_for
from PIL import Image

PER_IMAGE = {"blood_cells": 2, "endoscopy": 3}
COUNTED = ("white blood cell", "platelet", "polyp")
WHOLE, GONE = 0.7, 0.02  # visible share from which an object counts as there, and as not there
DARK = 45  # mean grey below which a crop shows the frame of the image only

Window = tuple[int, int, int, int]


def crop_pictures(pictures: list[Picture], folder: Path, seed: int) -> list[Picture]:
    """Crops of the pictures, saved below ``folder``; they stay in the part of their image."""
    return [crop for picture in pictures for crop in _crops_of(picture, folder, seed)]


def _crops_of(picture: Picture, folder: Path, seed: int) -> Iterator[Picture]:
    number = PER_IMAGE.get(picture.source, 0)
    if not number or not picture.things:
        return
    with Image.open(folder / picture.image) as file:
        image = file.convert("RGB")
    rng = rng_for(seed, "crops", picture.name)
    for index in range(number):
        # Every other crop leaves the most telling object out, as nearly all images hold one.
        found = _find(picture, image, rng, empty=index % 2 == 1)
        if found is None:
            continue
        window, things = found
        name = f"images/crops/{picture.source}_{Path(picture.image).stem}_{index}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cut = image.crop(window)
        cut.save(folder / name, quality=92)
        labels = dict(picture.labels)
        if not any(thing.name == "polyp" for thing in things):
            labels.pop("finding", None)  # of a part without the polyp nothing is known
        yield replace(
            picture, image=name, base=picture.image, size=cut.size, labels=labels, things=things
        )


def _find(
    picture: Picture, image: Image.Image, rng: random.Random, empty: bool
) -> tuple[Window, list[Thing]] | None:
    main = "polyp" if picture.source == "endoscopy" else "white blood cell"
    for _ in range(40):
        window = _window(picture.size, rng)
        things = visible_things(picture.things, window)
        if things is None or any(thing.name == main for thing in things) == empty:
            continue
        if np.asarray(image.crop(window).convert("L")).mean() > DARK:
            return window, things
    return None


def _window(size: tuple[int, int], rng: random.Random) -> Window:
    share = rng.uniform(0.5, 0.85)
    width, height = round(size[0] * share), round(size[1] * share)
    left, top = rng.randint(0, size[0] - width), rng.randint(0, size[1] - height)
    return left, top, left + width, top + height


def visible_things(things: list[Thing], window: Window) -> list[Thing] | None:
    """The objects inside the window, in its coordinates.

    Returns:
        None when an object that is counted is cut so that it is neither there nor gone.
    """
    inside = []
    for thing in things:
        left, top = max(thing.box[0], window[0]), max(thing.box[1], window[1])
        right, bottom = min(thing.box[2], window[2]), min(thing.box[3], window[3])
        share = max(0, right - left) * max(0, bottom - top) / thing.area
        if share < WHOLE:
            if share > GONE and thing.name in COUNTED:
                return None
            continue
        moved = (left - window[0], top - window[1], right - window[0], bottom - window[1])
        inside.append(Thing(thing.name, moved))
    return inside
