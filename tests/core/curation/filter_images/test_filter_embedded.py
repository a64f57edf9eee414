"""The filter that ships tells apart what the paper tells apart, on figures drawn here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.scoring import score_images
from biod2c_core.curation.filter_images.sources import Item


def table() -> Image.Image:
    page = Image.new("RGB", (500, 360), "white")
    draw = ImageDraw.Draw(page)
    for row in range(12):
        draw.line((20, 20 + 27 * row, 480, 20 + 27 * row), fill="black")
        for column in range(5):
            draw.text(
                (30 + 92 * column, 25 + 27 * row), f"{row * 3.7:.1f} (p={column})", fill="black"
            )
    return page


def plot() -> Image.Image:
    page = Image.new("RGB", (500, 400), "white")
    draw = ImageDraw.Draw(page)
    draw.line((50, 20, 50, 350, 480, 350), fill="black", width=2)
    for bar in range(6):
        draw.rectangle((80 + 65 * bar, 330 - 45 * bar, 120 + 65 * bar, 349), fill="steelblue")
        draw.text((85 + 65 * bar, 360), f"day {bar}", fill="black")
    return page


def figure(pictures: list[Image.Image], columns: int) -> Image.Image:
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * 130 - 10, rows * 130 - 10), "white")
    for index, picture in enumerate(pictures):
        place = (index % columns * 130, index // columns * 130)
        page.paste(picture.resize((120, 120)), place)
    return page


def label(pictures: dict[str, Image.Image], folder: Path) -> dict[str, str]:
    items = []
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
        items.append(Item(name, str(folder / f"{name}.png")))
    encoder = ImageEncoder.load()
    image_filter = ImageFilter.load(None, encoder.identity)
    (scores,) = score_images(items, encoder, image_filter, 0)
    return {s.image: "polluted" if s.polluted and s.polluted >= 0.5 else "clean" for s in scores}


def test_tables_and_plots_are_polluted(tmp_path: Path) -> None:
    assert label({"table": table(), "plot": plot()}, tmp_path) == {
        "table": "polluted",
        "plot": "polluted",
    }


@pytest.mark.real_data
def test_panels_are_counted(data_root: Path, tmp_path: Path) -> None:
    paths = sorted((data_root / "vqa_rad" / "images").iterdir())
    pictures = [Image.open(path).convert("RGB") for path in paths[:45:5]]  # not trained on
    found = label(
        {
            "one": pictures[0],
            "two": figure(pictures[:2], 2),
            "four": figure(pictures[:4], 2),
            "nine": figure(pictures, 3),
            "twelve": figure([*pictures, *pictures[:3]], 4),
        },
        tmp_path,
    )
    polluted = np.array([found[name] == "polluted" for name in found])
    assert polluted.tolist() == [False, False, False, True, True]
