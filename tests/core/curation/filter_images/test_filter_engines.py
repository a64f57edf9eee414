"""Every engine gives the output of the single process, byte for byte."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.engines.processes import choose_engine, score_on_devices
from biod2c_core.curation.filter_images.filter import filter_images
from biod2c_core.curation.filter_images.sources import Item, list_images
from biod2c_core.errors import InputError, MissingDependencyError


@pytest.fixture
def items(images: Path) -> list[Item]:
    """Two batches, one of them with a file that is not an image."""
    return [*list_images(images), Item("torn.png", str(Path(__file__)))]


def test_a_process_for_each_device_gives_the_output_of_one(
    items: list[Item], tmp_path: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    engine = partial(score_on_devices, devices=["cpu", "cpu"])
    filter_images(items, tmp_path / "one.jsonl", encoder, image_filter)
    report = filter_images(items, tmp_path / "two.jsonl", encoder, image_filter, engine=engine)
    assert (report.scored_now, report.failed) == (25, 1)
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert not active_children()


def test_a_scoring_process_that_dies_is_told(
    items: list[Item], encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    scores = score_on_devices(items, encoder, image_filter, devices=["cpu"])
    assert len(next(iter(scores))) == 16
    (process,) = active_children()
    os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(InputError, match="scored on cpu died"):
        list(scores)


def test_ray_gives_the_output_of_one(
    items: list[Item], tmp_path: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'distributed' is not installed")
    filter_images(items, tmp_path / "one.jsonl", encoder, image_filter)
    engine = choose_engine("ray", 0, 0)
    try:
        report = filter_images(items, tmp_path / "ray.jsonl", encoder, image_filter, engine=engine)
    finally:
        ray.shutdown()
    assert (report.scored_now, report.failed) == (25, 1)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_engines_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="local, ray"):
        choose_engine("spark", 0, 0)
    with pytest.raises(InputError, match="takes every CPU and GPU"):
        choose_engine("ray", 2, 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--gpus 2, but this machine has 1"):
        choose_engine("local", 2, 0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"biod2c\[distributed\]"):
        choose_engine("ray", 0, 0)
