"""Make the images of the embedded filter: ``generate.py OUT [--root DATA] [--seed 0]``.

Reads the image folders (clean) and ``figures/`` (by our ``labels.csv``), and draws what they lack:
annotated and recoloured pictures (clean), compound figures of 2 to 6 panels (clean) and of more
(polluted), tables, sketches, plots and diagrams (polluted), some of them as photographs of paper or
screens, and compound figures in which one panel is one of these (polluted).
``OUT/labels.csv`` has the columns image, label, source, panels and split; ``source`` names every folder
and kind that an image is made from, joined by ``+``, so that a source can be left out entirely. Every
fifth picture of a folder is kept apart: it and the figures made of such pictures have the split
``test``, all else has ``train``.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from annotate import annotate, recolour
from diagrams import draw_diagram
from paper import photograph
from PIL import Image
from plots import draw_plot
from sketches import draw_sketch
from tables import draw_table
from tilings import draw_cells, draw_panel_count, draw_style, tile

from biod2c_core.atomic import atomic_open
from biod2c_core.data.images import load_image

CLEAN_FOLDERS = ("blood_cells", "ct_contrast", "endoscopy", "nuclei", "oct", "vqa_rad")
DRAWN: dict[str, Callable[[random.Random], Image.Image]] = {
    "tables": draw_table,
    "sketches": draw_sketch,
    "plots": draw_plot,
    "diagrams": draw_diagram,
}
COUNTS = {
    "annotated": 70,
    "recoloured": 60,
    "tilings": 80,
    "near_limit": 60,  # tilings of nearly as many panels as may be
    "drawn": 120,
    "photographed": 80,
    "mixed_pages": 12,
    "test_tilings": 25,
}
MOST_ORIGINALS = {"train": 110, "test": 40}  # of a folder
HELD_OUT = 5  # every fifth picture is for tests
FIELDS = ("image", "label", "source", "panels", "split")
CHOICES = Path(__file__).with_name("labels.csv")


class Drawn(NamedTuple):
    """One generated picture with its row of ``labels.csv``."""

    name: str
    label: str
    source: str
    panels: int
    split: str
    picture: Image.Image


def folder_pictures(root: Path, folder: str) -> dict[str, list[Path]]:
    """The pictures of a clean folder by split."""
    paths = sorted((root / folder / "images").iterdir())
    test = paths[::HELD_OUT]
    return {"train": [path for path in paths if path not in set(test)], "test": test}


@lru_cache(maxsize=600)
def _picture(path: Path) -> Image.Image:
    picture = load_image(path)
    picture.thumbnail((384, 384))
    return picture


class Generator:
    """Draws every kind from its own stream of random numbers.

    Args:
        root: The data folder.
        seed: Another seed draws other pictures.
        share: Fraction of the usual numbers to draw, for a quick look.
    """

    def __init__(self, root: Path, seed: int, share: float = 1.0) -> None:
        self.seed = seed
        self.share = share
        self.folders = {name: folder_pictures(root, name) for name in CLEAN_FOLDERS}

    def images(self) -> Iterator[Drawn]:
        """All pictures, kind by kind."""
        for folder in CLEAN_FOLDERS:
            yield from self._altered("annotated", annotate, folder)
            yield from self._altered("recoloured", recolour, folder)
        for folders in (*((folder,) for folder in CLEAN_FOLDERS), CLEAN_FOLDERS):
            for polluted in (False, True):
                yield from self._tilings(folders, polluted, "train", COUNTS["tilings"])
                yield from self._tilings(folders, polluted, "train", COUNTS["near_limit"], True)
                yield from self._tilings(folders, polluted, "test", COUNTS["test_tilings"])
        for kind in DRAWN:
            yield from self._drawn(kind)
            if kind != "sketches":  # these are drawn on paper anyway
                yield from self._photographed(kind)
            for folder in CLEAN_FOLDERS:
                yield from self._mixed_pages(kind, folder)

    def _stream(self, name: str, count: int) -> Iterator[tuple[str, random.Random]]:
        for index in range(round(count * self.share)):
            yield f"{name}_{index:04d}.jpg", random.Random(f"{self.seed} {name} {index}")

    def _altered(
        self, kind: str, alter: Callable[[Image.Image, random.Random], Image.Image], folder: str
    ) -> Iterator[Drawn]:
        for name, rng in self._stream(f"{kind}_{folder}", COUNTS[kind]):
            picture = alter(_picture(rng.choice(self.folders[folder]["train"])), rng)
            yield Drawn(name, "clean", folder, 1, "train", picture)

    def _tilings(
        self,
        folders: tuple[str, ...],
        polluted: bool,
        split: str,
        count: int,
        near_limit: bool = False,
    ) -> Iterator[Drawn]:
        kind = ("near-" if near_limit else "") + ("many" if polluted else "few")
        place = folders[0] if len(folders) == 1 else "mixed"
        for name, rng in self._stream(f"{split}_{kind}_{place}", count):
            panels = draw_panel_count(rng, polluted, near_limit)
            chosen = [rng.choice(folders) for _ in range(panels)]
            pictures = [_picture(rng.choice(self.folders[folder][split])) for folder in chosen]
            if rng.random() < 0.3:  # one picture in several versions, as in before and after
                pictures = [pictures[0]] * panels
                chosen = chosen[:1]
            figure = tile(pictures, draw_cells(panels, rng), draw_style(rng), rng)
            source = "+".join(sorted(set(chosen)))
            label = "polluted" if polluted else "clean"
            yield Drawn(name, label, source, panels, split, figure)

    def _drawn(self, kind: str) -> Iterator[Drawn]:
        for name, rng in self._stream(kind, COUNTS["drawn"]):
            yield Drawn(name, "polluted", kind, 1, "train", DRAWN[kind](rng))

    def _photographed(self, kind: str) -> Iterator[Drawn]:
        for name, rng in self._stream(f"photographed_{kind}", COUNTS["photographed"]):
            picture = photograph(DRAWN[kind](rng), rng)
            yield Drawn(name, "polluted", kind, 1, "train", picture)

    def _mixed_pages(self, kind: str, folder: str) -> Iterator[Drawn]:
        for name, rng in self._stream(f"page_{kind}_{folder}", COUNTS["mixed_pages"]):
            panels = rng.randint(2, 6)
            made = rng.randint(1, panels - 1)
            pictures = [DRAWN[kind](rng) for _ in range(made)]
            photographs = self.folders[folder]["train"]
            pictures += [_picture(rng.choice(photographs)) for _ in range(panels - made)]
            rng.shuffle(pictures)
            style = draw_style(rng)
            figure = tile(pictures, draw_cells(panels, rng), style, rng)
            yield Drawn(name, "polluted", f"{folder}+{kind}", panels, "train", figure)


def original_rows(root: Path, out: Path) -> Iterator[dict[str, str | int]]:
    """Rows for the pictures that exist: the clean folders, and ``figures/`` as decided by eye."""
    for folder in CLEAN_FOLDERS:
        for split, paths in folder_pictures(root, folder).items():
            for path in paths[:: max(1, len(paths) // MOST_ORIGINALS[split])]:
                yield _row(os.path.relpath(path, out), "clean", folder, 1, split)
    with CHOICES.open(encoding="utf-8", newline="") as file:
        for choice in csv.DictReader(file):
            path = root / "figures" / "images" / choice["image"]
            source = "charts" if choice["image"].startswith("chart") else "figures"
            yield _row(os.path.relpath(path, out), choice["label"], source, "", "train")


def _row(
    image: str, label: str, source: str, panels: int | str, split: str
) -> dict[str, str | int]:
    return dict(zip(FIELDS, (image, label, source, panels, split), strict=True))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--root", type=Path, default=os.environ.get("BIOD2C_DATA", "../shared/data")
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual numbers to draw")
    given = parser.parse_args()
    root, out = Path(given.root).resolve(), given.out.resolve()
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = list(original_rows(root, out))
    for drawn in Generator(root, given.seed, given.share).images():
        quality = random.Random(drawn.name).randint(60, 95)
        drawn.picture.save(out / "images" / drawn.name, quality=quality)
        name = f"images/{drawn.name}"
        rows.append(_row(name, drawn.label, drawn.source, drawn.panels, drawn.split))
    with atomic_open(out / "labels.csv") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{out / 'labels.csv'}: {dict(Counter(row['label'] for row in rows))}")


if __name__ == "__main__":
    main()
