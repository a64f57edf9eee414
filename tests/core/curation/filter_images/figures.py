"""Images of two kinds that even an untrained encoder tells apart, and what tests do with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from biod2c_core.curation.filter_images.classifier import ImageFilter, feature_width, train_head
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.scoring import compute_features
from biod2c_core.curation.filter_images.sources import list_images


def picture(seed: int) -> Image.Image:
    """Smooth and dark, as a scan."""
    noise = np.random.default_rng(seed).integers(0, 150, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((60, 60), Image.Resampling.BICUBIC)


def page(seed: int) -> Image.Image:
    """White with black lines, as a table."""
    pixels = np.full((60, 60, 3), 255, np.uint8)
    rng = np.random.default_rng(seed)
    pixels[rng.integers(5, 55, 6)] = 0
    pixels[:, rng.integers(5, 55, 4)] = 0
    return Image.fromarray(pixels)


def write_images(folder: Path, count: int = 12) -> Path:
    """``count`` of each kind: ``clean-N.png`` and ``polluted-N.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        picture(seed).save(folder / f"clean-{seed:02d}.png")
        page(seed).save(folder / f"polluted-{seed:02d}.png")
    return folder


def trained_filter(folder: Path, encoder: ImageEncoder, seed: int = 0) -> ImageFilter:
    """A head trained on a folder of :func:`write_images`."""
    items = list_images(folder)
    features = np.concatenate([rows for _, rows in compute_features(items, encoder, 0)])
    assert features.shape == (len(items), feature_width(encoder.width))
    polluted = np.array([item.name.startswith("polluted") for item in items])
    return ImageFilter(train_head(features, polluted, seed=seed), encoder.identity)
