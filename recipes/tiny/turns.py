"""Mirrored and turned copies of boxed images: the same style with the objects in other places.

Only of sources where up and left mean nothing: under a microscope, or in front of an endoscope, any
orientation is as likely as another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pictures import BOXED, Picture, Thing
from PIL import Image

TURNS = {  # name: (mirrored left to right, mirrored top to bottom)
    "mirrored": (True, False),
    "flipped": (False, True),
    "turned": (True, True),
}


def turned_pictures(pictures: list[Picture], folder: Path) -> list[Picture]:
    """Three copies of each picture, saved below ``folder``; they stay in the part of their image."""
    return [copy for picture in pictures for copy in _turns_of(picture, folder)]


def _turns_of(picture: Picture, folder: Path) -> Iterator[Picture]:
    if picture.source not in BOXED or not picture.things:
        return
    with Image.open(folder / picture.image) as file:
        image = file.convert("RGB")
    for turn, (across, down) in TURNS.items():
        name = f"images/turns/{picture.source}_{Path(picture.image).stem}_{turn}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if across else image
        copy = copy.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if down else copy
        copy.save(folder / name, quality=92)
        things = [moved(thing, picture.size, across, down) for thing in picture.things]
        yield replace(picture, image=name, base=picture.origin, things=things)


def moved(thing: Thing, size: tuple[int, int], across: bool, down: bool) -> Thing:
    """Where an object lies in the mirrored image."""
    left, top, right, bottom = thing.box
    if across:
        left, right = size[0] - right, size[0] - left
    if down:
        top, bottom = size[1] - bottom, size[1] - top
    return Thing(thing.name, (left, top, right, bottom))
