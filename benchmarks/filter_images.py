"""How much of the encoder's speed ``biod2c filter-images run`` keeps.

    python benchmarks/filter_images.py IMAGES [ROUNDS]

A folder is scored by ``run`` (decoding, layout, encoder, head, output file), and bare: every image is
decoded, scaled and encoded in the same batches, and nothing else. The two are done in turn, and the
ratio of their best process times on one thread is printed; 1 would be no cost at all. Decoding runs in
this process both times: worker processes would hide the layout measures and flatter the figure.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.decode import batched
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.filter import filter_images
from biod2c_core.curation.filter_images.scoring import BATCH
from biod2c_core.curation.filter_images.sources import Item, list_images, read_image

MOST = 96  # images


def bare(items: list[Item], encoder: ImageEncoder) -> None:
    """Decode and encode."""
    side = (encoder.side, encoder.side)
    for batch in batched(items, BATCH):
        pictures = [read_image(item).resize(side, Image.Resampling.BICUBIC) for item in batch]
        encoder(np.stack([np.asarray(picture) for picture in pictures]))


def full(items: list[Item], encoder: ImageEncoder, image_filter: ImageFilter) -> None:
    """What the command does, into an output of its own."""
    with tempfile.TemporaryDirectory() as folder:
        filter_images(items, Path(folder) / "out.jsonl", encoder, image_filter)


def seconds(work: Callable[[], object]) -> float:
    """Process CPU time of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Time both ways in turn."""
    torch.set_num_threads(1)
    items = list_images(sys.argv[1])[:MOST]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    encoder = ImageEncoder.load()
    image_filter = ImageFilter.load(None, encoder.identity)
    bare(items[:BATCH], encoder)  # warm up
    alone, whole = [], []
    for _ in range(rounds):
        alone.append(seconds(lambda: bare(items, encoder)))
        whole.append(seconds(lambda: full(items, encoder, image_filter)))
    each = [1000 * min(times) / len(items) for times in (alone, whole)]
    print(
        f"{len(items)} images: bare {each[0]:.1f} ms, run {each[1]:.1f} ms an image: "
        f"{min(alone) / min(whole):.2f} of the bare throughput"
    )


if __name__ == "__main__":
    main()
