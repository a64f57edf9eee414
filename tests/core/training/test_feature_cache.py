"""The feature cache: the trunk's numbers in half precision, whatever was killed before."""

from __future__ import annotations

import json
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biod2c_core import contents
from biod2c_core.data.images import load_image
from biod2c_core.errors import ImageError, InputError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.inputs import feature_cache
from biod2c_core.training.inputs.feature_cache import (
    FeatureCache,
    default_cache_folder,
    free_space,
    pack,
    row_bytes,
    unpack,
)

Built = tuple[BioD2CForConditionalGeneration, BioD2CProcessor]
COUNT = 20  # more than the batch of 16 in which images are encoded


@pytest.fixture(scope="module")
def built(llama: Path) -> Built:
    return tiny_models.build(llama)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{index}.png" for index in range(COUNT)]
    for index, path in enumerate(paths):
        tiny_models.make_image(index).save(path)
    return paths


class Filling:
    """A cache, how many images it was told of, and how many the trunk saw."""

    def __init__(
        self,
        folder: Path,
        built: Built,
        images: list[Path],
        kind: str = "float16",
    ) -> None:
        model, processor = built
        self.cache = FeatureCache(folder, model.vision, processor, kind)
        self.said: list[str] = []
        self.advanced = 0
        self.encoded = 0
        hook = model.vision.trunk.register_forward_hook(self._count)
        try:
            self.cache.fill(images, self._advance, note=self.said.append)
        finally:
            hook.remove()

    def _advance(self, count: int) -> None:
        self.advanced += count

    def _count(self, module: object, given: tuple[torch.Tensor], result: object) -> None:
        self.encoded += len(given[0])


def check(filling: Filling, built: Built, images: list[Path]) -> None:
    """Each image has its own features, as the trunk gives them."""
    model, processor = built
    for path in images:
        got = filling.cache(path)
        wanted = model.vision(processor.pixels(load_image(path))[None])[0]
        assert got.dtype == torch.float16
        assert got.shape == tiny_models.GRID
        torch.testing.assert_close(got.float(), wanted, atol=2e-3, rtol=2e-3)


def test_each_image_has_its_own_features(built: Built, images: list[Path], tmp_path: Path) -> None:
    filling = Filling(tmp_path, built, images)
    assert (filling.advanced, filling.encoded) == (COUNT, COUNT)
    check(filling, built, images)
    assert not torch.equal(filling.cache(images[0]), filling.cache(images[1]))


def test_what_is_there_is_not_computed_again(
    built: Built, images: list[Path], tmp_path: Path
) -> None:
    Filling(tmp_path, built, images[:17])
    filling = Filling(tmp_path, built, images)
    assert (filling.advanced, filling.encoded) == (COUNT, 3)
    check(filling, built, images)


def test_copies_of_a_picture_share_a_row(built: Built, images: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(images[0].read_bytes())
    filling = Filling(tmp_path / "cache", built, [images[0], copy, images[1], copy])
    assert (filling.advanced, filling.encoded) == (4, 2)
    assert torch.equal(filling.cache(copy), filling.cache(images[0]))


def test_a_changed_picture_is_another_one(built: Built, images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(images[0].read_bytes())
    Filling(tmp_path / "cache", built, [path])
    path.write_bytes(images[1].read_bytes())
    filling = Filling(tmp_path / "cache", built, [path])
    assert filling.encoded == 1
    check(filling, built, [path])


def files(folder: Path) -> tuple[Path, Path]:
    (rows,) = folder.glob("*/rows.f16")
    return rows, rows.with_name("index.jsonl")


@pytest.mark.parametrize(("cut", "lost"), [(1, 0), (10, 1), (57, 2)])
def test_a_torn_index_costs_only_what_it_lost(
    built: Built, images: list[Path], tmp_path: Path, cut: int, lost: int
) -> None:
    Filling(tmp_path, built, images)
    _, index = files(tmp_path)
    index.write_bytes(index.read_bytes()[:-cut])
    filling = Filling(tmp_path, built, images)
    assert filling.encoded == lost
    check(filling, built, images)
    assert Filling(tmp_path, built, images).encoded == 0


@pytest.mark.parametrize("rows_left", [18.5, 3, 0])
def test_lost_rows_are_computed_again_and_never_mistaken(
    built: Built, images: list[Path], tmp_path: Path, rows_left: float
) -> None:
    """After a crash of the machine, the index may know rows that never reached the disk."""
    Filling(tmp_path, built, images)
    rows, _ = files(tmp_path)
    whole = rows.stat().st_size
    with rows.open("r+b") as file:
        file.truncate(int(whole / COUNT * rows_left))
    partly = Filling(tmp_path, built, images[-1:])  # writes over the place of a lost row
    check(partly, built, images[-1:])
    filling = Filling(tmp_path, built, images)
    check(filling, built, images)
    assert filling.encoded == COUNT - int(rows_left) - 1


def test_rows_without_an_index_line_are_left_behind(
    built: Built, images: list[Path], tmp_path: Path
) -> None:
    Filling(tmp_path, built, images[:2])
    rows, _ = files(tmp_path)
    with rows.open("ab") as file:
        file.write(rows.read_bytes()[: rows.stat().st_size // 2] + b"torn")
    filling = Filling(tmp_path, built, images[:4])
    assert filling.encoded == 2
    check(filling, built, images[:4])


def test_two_runs_may_fill_one_cache_at_once(
    built: Built, images: list[Path], tmp_path: Path
) -> None:
    """Each keeps to its turn, and the second finds what the first has written."""
    model, processor = built
    begun = threading.Barrier(2)

    def fill(part: list[Path]) -> None:
        cache = FeatureCache(tmp_path, model.vision, processor)
        begun.wait()
        cache.fill(part, lambda _: None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, (images[:12], images[8:][::-1])))
    rows, index = files(tmp_path)
    assert len(index.read_text().splitlines()) == COUNT
    assert rows.stat().st_size == COUNT * math.prod(tiny_models.GRID) * 2
    filling = Filling(tmp_path, built, images)
    assert filling.encoded == 0
    check(filling, built, images)


def test_the_key_follows_the_trunk_and_the_pixels(
    built: Built, images: list[Path], llama: Path, tmp_path: Path
) -> None:
    Filling(tmp_path, built, images[:1])
    Filling(tmp_path, tiny_models.build(llama), images[:1])
    assert len(list(tmp_path.glob("*/"))) == 1  # the same trunk again
    changed = tiny_models.build(llama)
    with torch.no_grad():
        next(changed[0].vision.trunk.buffers()).add_(1e-3)
    Filling(tmp_path, changed, images[:1])
    model, processor = tiny_models.build(llama)
    processor.image_mean = [0.5, 0.5, 0.5]
    Filling(tmp_path, (model, processor), images[:1])
    model, processor = tiny_models.build(llama)
    model.vision.normalize = True
    Filling(tmp_path, (model, processor), images[:1])
    assert len(list(tmp_path.glob("*/"))) == 4


def test_values_beyond_half_precision_are_clamped(
    built: Built, images: list[Path], llama: Path, tmp_path: Path
) -> None:
    model, processor = tiny_models.build(llama)
    with torch.no_grad():
        for parameter in model.vision.trunk.parameters():
            parameter.mul_(30)
    filling = Filling(tmp_path, (model, processor), images[:1])
    assert filling.cache(images[0]).isfinite().all()
    assert filling.cache(images[0]).abs().max() == torch.finfo(torch.float16).max


@pytest.mark.parametrize(("kind", "bits"), [("bfloat16", 8), ("float8", 4)])
def test_other_types_round_each_number_to_their_own_precision(
    kind: str, bits: int, built: Built, images: list[Path], tmp_path: Path
) -> None:
    model, processor = built
    filling = Filling(tmp_path, built, images, kind)
    for path in images:
        got = filling.cache(path)
        wanted = model.vision(processor.pixels(load_image(path))[None])[0]
        assert (got.dtype, got.shape) == (torch.bfloat16, tiny_models.GRID)
        smallest = wanted.abs().max() * 2.0**-15  # below it, the steps of float8 no longer shrink
        error = (got.float() - wanted).abs()
        assert (error <= wanted.abs() * 2.0**-bits + smallest * 2.0**-bits * 2).all()
    (rows,) = tmp_path.glob("*/rows.*")
    assert rows.stat().st_size == COUNT * row_bytes(tiny_models.GRID, kind)
    again = Filling(tmp_path, built, images, kind)
    assert again.encoded == 0
    assert torch.equal(again.cache(images[3]), filling.cache(images[3]))
    assert Filling(tmp_path, built, images[:2]).encoded == 2  # another type has rows of its own


@given(
    hnp.arrays(np.float32, (3, 2, 2, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.sampled_from(["float16", "bfloat16", "float8"]),
)
def test_numbers_of_any_size_stay_finite_and_in_order(features: np.ndarray, kind: str) -> None:
    """And what a type can hold is given back as it was: zeros, ones, powers of two near the largest."""
    packed = pack(torch.from_numpy(features), kind)
    assert packed.shape == (3, row_bytes((2, 2, 5), kind))
    for row, wanted in zip(packed, torch.from_numpy(features).flatten(1), strict=True):
        got = unpack(row, kind).float()
        assert got.isfinite().all()
        assert (got[wanted.argsort()].diff() >= 0).all()
        assert torch.equal(got[wanted == 0], wanted[wanted == 0])
    exact = torch.tensor([[1.0, 0.5, -0.25, 0.0, 1.75]]).view(1, 1, 1, 5) * 2.0**3
    assert torch.equal(unpack(pack(exact, kind)[0], kind).float(), exact.flatten())


def test_the_space_is_told_before_and_refused_where_it_is_not_there(
    built: Built, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = COUNT * row_bytes(tiny_models.GRID, "float16")
    monkeypatch.setattr(feature_cache, "free_space", lambda folder: needed - 1)
    with pytest.raises(InputError, match=r"need .* GiB, and .* has .* GiB free") as caught:
        Filling(tmp_path, built, images)
    assert "feature_type=float8" in str(caught.value)
    (rows,) = tmp_path.glob("*/rows.*")
    assert rows.stat().st_size == 0
    filling = Filling(tmp_path, built, images[1:])
    assert "features of 19 images in float16" in filling.said[0]
    Filling(tmp_path, built, images)  # one row is missing now, for which there is room
    assert Filling(tmp_path, built, images).said == []


def test_free_space_is_that_of_the_disk_of_a_folder_to_come(tmp_path: Path) -> None:
    assert free_space(tmp_path / "a" / "b") == pytest.approx(free_space(tmp_path), rel=0.1)
    assert free_space(Path("relative/to/here")) > 0


def test_one_process_reads_the_pictures_for_all(
    built: Built, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = contents._read

    def noted(name: str) -> str:
        read.append(name)
        return whole(name)

    monkeypatch.setattr(contents, "_read", noted)
    monkeypatch.setattr(contents, "_SETTLED", -1.0)
    cache = tmp_path / "cache"
    for kind in ("float16", "float16", "float8"):
        monkeypatch.setattr(contents, "_known", {})  # as in another process
        Filling(cache, built, images, kind)
    assert sorted(read) == sorted(map(str, images))
    changed = tmp_path / "changed.png"
    changed.write_bytes(images[0].read_bytes())
    Filling(cache, built, [changed])
    changed.write_bytes(images[1].read_bytes())
    os.utime(changed, (1, 1))
    monkeypatch.setattr(contents, "_known", {})
    filling = Filling(cache, built, [changed])
    assert filling.encoded == 0
    check(filling, built, [changed])
    assert len(read) == COUNT + 2
    with (cache / "checksums.jsonl").open("a") as log:
        log.write('[1]\n{"x": [2]}\n3\n')
    monkeypatch.setattr(contents, "_known", {})
    check(Filling(cache, built, images), built, images)
    assert len(read) == COUNT + 2


def test_a_missing_image_is_an_image_error(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="image not found"):
        Filling(tmp_path, built, [tmp_path / "nothing.png"])


def test_index_is_json_lines(built: Built, images: list[Path], tmp_path: Path) -> None:
    Filling(tmp_path, built, images[:3])
    _, index = files(tmp_path)
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    assert [row for _, row in rows] == [0, 1, 2]


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIOD2C_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path / "features"
    monkeypatch.delenv("BIOD2C_CACHE")
    assert default_cache_folder() == Path.home() / ".cache" / "biod2c" / "features"
