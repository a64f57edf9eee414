"""SIGKILL at ten random moments: the output has every image once, as if nothing had happened."""

from __future__ import annotations

import json
import random
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from figures import write_images

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.filter import filter_images
from biod2c_core.curation.filter_images.scoring import score_images
from biod2c_core.curation.filter_images.sources import list_images

KILLS = 10


def run_until_killed(
    images: Path, output: Path, checkpoint: Path, folder: Path, workers: int
) -> None:
    torch.set_num_threads(1)
    encoder = ImageEncoder.load(checkpoint)
    filter_images(
        list_images(images),
        output,
        encoder,
        ImageFilter.load(folder, encoder.identity),
        engine=partial(score_images, workers=workers),
        # Waits after each batch: the run has to be met in the middle, on machines of any speed.
        advance=lambda count: time.sleep(0.05),
    )


def progress(output: Path) -> int:
    partial_file = output.with_name(f"{output.name}.partial")
    return partial_file.read_bytes().count(b"\n") if partial_file.exists() else 0


@pytest.mark.slow
def test_killed_at_random_moments_every_image_has_one_row(
    checkpoint: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    images = write_images(tmp_path / "images", 100)
    image_filter.save(tmp_path / "filter")
    output = tmp_path / "out.jsonl"
    context = get_context("forkserver")  # imports torch once for all ten
    context.set_forkserver_preload([filter_images.__module__])
    rng = random.Random(0)
    for attempt in range(KILLS):
        before = progress(output)
        arguments = (images, output, checkpoint, tmp_path / "filter", attempt % 2)
        child = context.Process(target=run_until_killed, args=arguments)
        child.start()
        while progress(output) == before and child.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        assert child.is_alive()  # it had not ended before
        child.kill()
        child.join()
    assert 0 < progress(output) < 200
    items = list_images(images)
    loaded = ImageFilter.load(tmp_path / "filter", encoder.identity)
    report = filter_images(items, output, encoder, loaded)
    assert report.scored_now < 200
    whole = tmp_path / "whole.jsonl"
    filter_images(items, whole, encoder, loaded)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image"] for row in rows] == [item.name for item in items]
    expected = [json.loads(line) for line in whole.read_text().splitlines()]
    for row, other in zip(rows, expected, strict=True):
        assert row["polluted"] == pytest.approx(other["polluted"], abs=2e-4)
