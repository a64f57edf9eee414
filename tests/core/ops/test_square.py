"""The square of a picture: Pillow's own numbers, whichever way is quicker."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from biod2c_core.ops.square import square

SIDE = 32


@pytest.mark.parametrize("size", [(32, 32), (40, 30), (200, 90), (97, 301)])
@pytest.mark.parametrize("kind", ["colour", "grey", "one coloured pixel", "L", "RGBA"])
def test_it_is_what_pillow_gives_of_three_channels(kind: str, size: tuple[int, int]) -> None:
    """One pixel between those that are looked at first must not pass for grey."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if kind != "colour":
        pixels[:] = pixels[..., :1]
    if kind == "one coloured pixel":
        pixels[7, 11] = (255, 0, 9)
    picture = Image.fromarray(pixels).convert(kind if kind in ("L", "RGBA") else "RGB")
    wanted = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    got = square(picture, SIDE)
    assert got.dtype == np.uint8
    assert got.flags.writeable
    assert np.array_equal(got, np.asarray(wanted))
