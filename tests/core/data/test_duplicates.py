"""Images that look the same are found however they were saved; different scans are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from biod2c_core.data.duplicates import find_duplicates, fingerprint
from biod2c_core.data.images import load_image


def scene(seed: int) -> Image.Image:
    """A smooth random picture with the spectrum of a natural one."""
    noise = np.random.default_rng(seed).normal(size=(96, 128))
    frequencies = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(128)) + 0.02
    values = np.fft.ifft2(np.fft.fft2(noise) / frequencies**1.5).real
    values = (values - values.min()) / np.ptp(values) * 200 + 20
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def as_jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=50)
    return load_image(buffer.getvalue())


COPIES = {
    "jpeg": as_jpeg,
    "half": lambda picture: picture.resize((64, 48)),
    "square": lambda picture: picture.resize((224, 224)),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.7),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_others(name: str) -> None:
    pictures = [scene(seed) for seed in range(40)]
    pictures.insert(17, COPIES[name](pictures[5]))
    assert find_duplicates([fingerprint(picture) for picture in pictures]) == [[5, 17]]


def test_mirrored_pictures_are_not_the_same() -> None:
    picture = scene(0)
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert find_duplicates([fingerprint(picture), fingerprint(mirrored)]) == []


def test_pictures_of_one_shade_are_the_same_only_in_that_shade() -> None:
    shades = [Image.new("RGB", (9, 9), (shade, shade, shade)) for shade in (0, 0, 40, 255)]
    assert find_duplicates([fingerprint(picture) for picture in shades]) == [[0, 1]]
    assert find_duplicates([]) == []


@pytest.mark.real_data
def test_different_radiographs_are_kept_apart_and_their_copies_found(data_root) -> None:
    paths = sorted((data_root / "vqa_rad" / "images").iterdir())[:60]
    pictures = [load_image(path) for path in paths]
    prints = [fingerprint(picture) for picture in pictures]
    assert find_duplicates(prints) == []
    prints += [fingerprint(as_jpeg(picture)) for picture in pictures]
    assert len(find_duplicates(prints)) >= 57
