"""How drawn things are met besides as clean files: on tinted paper, scanned askew, on a dark board."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps


def photograph(page: Image.Image, rng: random.Random) -> Image.Image:
    """The page on tinted paper or a dark board under uneven light, askew, with grain and blur; each perhaps.

    Args:
        page: RGB.
        rng: Decides.

    Returns:
        RGB of the same size.
    """
    if rng.random() < 0.3:
        base = Image.new("RGB", page.size, tuple(rng.randint(8, 60) for _ in range(3)))
        page = ImageChops.lighter(ImageOps.invert(page), base)
    elif rng.random() < 0.7:
        tint = tuple(rng.randint(190, 255) for _ in range(3))
        page = ImageChops.multiply(page, Image.new("RGB", page.size, tint))
    if rng.random() < 0.5:
        desk = tuple(rng.randint(40, 230) for _ in range(3))
        page = page.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC, fillcolor=desk)
    if rng.random() < 0.4:
        page = page.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.4)))
    values = np.asarray(page, np.float32)
    height, width = values.shape[:2]
    light = np.linspace(-1, 1, width)[None, :] * rng.uniform(-35, 35)
    light = light + np.linspace(-1, 1, height)[:, None] * rng.uniform(-35, 35)
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, 7), (height, width))
    return Image.fromarray(np.clip(values + (light + grain)[..., None], 0, 255).astype(np.uint8))
