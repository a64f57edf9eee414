"""SIGKILL at ten random moments: the output has every image once, as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from figures import write_images

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.run import filter_images
from biod2c_core.curation.filter_images.sources import list_images

KILLS = 10
# Waits before each batch: the run has to be met in the middle, on machines of any speed.
CHILD = """
import sys, time
from pathlib import Path
from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images import run
from biod2c_core.curation.filter_images.sources import list_images

images, output, checkpoint, folder, workers = sys.argv[1:]
encoder = ImageEncoder.load(checkpoint)
run.filter_images(
    list_images(images), Path(output), encoder, ImageFilter.load(Path(folder), encoder.identity),
    workers=int(workers), advance=lambda count: time.sleep(0.05),
)
"""


def progress(output: Path) -> int:
    partial = output.with_name(f"{output.name}.partial")
    return partial.read_bytes().count(b"\n") if partial.exists() else 0


@pytest.mark.slow
def test_killed_at_random_moments_every_image_has_one_row(
    checkpoint: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    images = write_images(tmp_path / "images", 100)
    image_filter.save(tmp_path / "filter")
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", CHILD, str(images), str(output)]
    command += [str(checkpoint), str(tmp_path / "filter")]
    rng = random.Random(0)
    kills = 0
    for attempt in range(KILLS):
        before = progress(output)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen([*command, str(attempt % 2)], env=environment)
        while progress(output) == before and child.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        kills += child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert kills == KILLS  # none had ended before
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
