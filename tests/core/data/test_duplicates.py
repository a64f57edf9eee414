"""Images that look the same are found however they were saved; different scans are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from biod2c_core.data import duplicates
from biod2c_core.data.duplicates import (
    MAX_DIFFERING_BITS,
    MIN_CORRELATION,
    THUMBNAIL,
    Fingerprint,
    find_duplicates,
    fingerprint,
)
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


def plainly(prints: list[Fingerprint]) -> list[list[int]]:
    """The definition: all pairs are looked at, and whoever looks like a member joins the group."""
    groups: list[list[int]] = []
    for index, one in enumerate(prints):
        alike = [group for group in groups if any(look_alike(prints[i], one) for i in group)]
        rest = [group for group in groups if group not in alike]
        groups = [*rest, sorted([*(i for group in alike for i in group), index])]
    return sorted(group for group in groups if len(group) > 1)


def look_alike(one: Fingerprint, other: Fingerprint) -> bool:
    if (one.signs != other.signs).sum() > MAX_DIFFERING_BITS:
        return False
    pair = [each.thumbnail.astype(np.float32) for each in (one, other)]
    if not pair[0].any() and not pair[1].any():
        return bool(abs(np.float32(one.shade) - np.float32(other.shade)) < 1)
    return bool(np.einsum("c,c->", *pair) >= MIN_CORRELATION)


def crowd(size: int, seed: int, *, varied_bits: int, directions: int) -> list[Fingerprint]:
    """Fingerprints near each other and near the limits, equal ones and ones of one shade among them.

    Args:
        size: How many.
        seed: Of everything.
        varied_bits: Bits of the hash in which any two may differ; the others are the same for all.
        directions: In how many directions thumbnails differ.
    """
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(THUMBNAIL**2, directions)))[0]
    prints: list[Fingerprint] = []
    for index in range(size):
        if index % 7 == 6:
            prints.append(prints[int(generator.integers(index))])
            continue
        signs = np.ones(64, np.int8)
        signs[:varied_bits] = generator.choice([-1, 1], varied_bits)
        thumbnail = basis @ generator.normal(size=directions)
        if index % 3 == 2:  # about as far from an earlier one as is still alike
            model = prints[int(generator.integers(index))]
            signs = model.signs.copy()
            signs[generator.choice(64, int(generator.integers(0, 11)), replace=False)] *= -1
            thumbnail = basis @ generator.normal(size=directions) * generator.uniform(0, 0.4)
            thumbnail = thumbnail / directions**0.5 + model.thumbnail
        length = np.linalg.norm(thumbnail)
        flat = index % 11 == 10 or length == 0
        thumbnail = (thumbnail * 0 if flat else thumbnail / length).astype(np.float16)
        prints.append(Fingerprint(signs, thumbnail, float(generator.uniform(0, 30))))
    return prints


@settings(max_examples=40)
@given(
    st.integers(0, 60),
    st.integers(0, 1 << 32),
    st.sampled_from([0, 6, 64]),
    st.sampled_from([2, 500]),
)
def test_the_groups_are_those_of_the_definition(
    size: int, seed: int, varied_bits: int, directions: int
) -> None:
    prints = crowd(size, seed, varied_bits=varied_bits, directions=directions)
    assert find_duplicates(prints) == plainly(prints)


@pytest.mark.parametrize(("varied_bits", "directions"), [(64, 500), (8, 2), (0, 500)])
def test_no_pair_is_missed_by_looking_up_dividing_or_comparing(
    varied_bits: int, directions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashes that vary are looked up, thumbnails that vary divided, and the rest is compared."""
    monkeypatch.setattr(duplicates, "_FEW", 40)
    monkeypatch.setattr(duplicates, "_SAMPLE", 16)
    ways: set[str] = set()
    for kind, name in (
        (duplicates._HashTable, "candidates"),
        (duplicates._Search, "_divide"),
        (duplicates._Search, "_compare"),
    ):

        def noting(self: object, *args: object, name: str = name, way: object = None) -> object:
            result = way(self, *args)  # type: ignore[operator]
            if name != "_divide" or result:
                ways.add(name)
            return result

        way = getattr(kind, name)
        monkeypatch.setattr(
            kind, name, lambda self, *args, n=name, w=way, f=noting: f(self, *args, name=n, way=w)
        )
    prints = crowd(250, 1, varied_bits=varied_bits, directions=directions)
    assert find_duplicates(prints) == plainly(prints)
    expected = {64: "candidates", 8: "_divide", 0: "_compare"}[varied_bits]
    assert expected in ways


@given(st.integers(0, 1 << 32), st.floats(0.01, 0.5))
@settings(max_examples=20)
def test_each_near_pair_is_in_one_half(seed: int, reach: float) -> None:
    places = np.random.default_rng(seed).normal(size=(1100, 3)).astype(np.float32)
    looks = duplicates._Looks(crowd(1, 0, varied_bits=0, directions=2))
    halves = duplicates._Search(looks, places, reach)._divide(np.arange(1100))
    assert len(halves) == 2
    assert set(np.concatenate(halves)) == set(range(1100))
    near = np.linalg.norm(places[:, None] - places, axis=2) <= reach
    together = np.zeros_like(near)
    for half in halves:
        together[np.ix_(half, half)] = True
    assert together[near].all()
    assert max(map(len, halves)) < 1000


def test_copies_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(duplicates._Search, "run", lambda _, rows: sizes.append(len(rows)))
    prints = [fingerprint(scene(0)), fingerprint(scene(1))]
    copies = [fingerprint(scene(0)) for _ in range(50)]
    assert find_duplicates([*prints, *copies]) == [[0, *range(2, 52)]]
    assert sizes == [2]


@pytest.mark.real_data
def test_different_radiographs_are_kept_apart_and_their_copies_found(data_root) -> None:
    paths = sorted((data_root / "vqa_rad" / "images").iterdir())[:60]
    pictures = [load_image(path) for path in paths]
    prints = [fingerprint(picture) for picture in pictures]
    assert find_duplicates(prints) == []
    prints += [fingerprint(as_jpeg(picture)) for picture in pictures]
    assert len(find_duplicates(prints)) >= 57
