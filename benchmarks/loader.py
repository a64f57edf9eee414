"""What reading pictures costs, and how many more of them workers read.

    python benchmarks/loader.py [FOLDER] [--rounds N] [--workers N]

First the steps of one picture on one thread, in processor time: decoding, resizing, normalizing as it was
done before batches were made (in numpy, channels last) and as it is done now (by the vision tower, on its
device). Then the same batches with 0 and with N workers in turn, in wall time against a step that does
nothing; their bytes are compared first. Beside them, as a control, a loop of pure computation alone and in
N processes at once: more than that is not to be had on a machine that does other work as well. Without
FOLDER the pictures are made: JPEG files of 1,100 x 1,000 pixels, grey and in colour.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from biod2c_core.data.images import load_image
from biod2c_core.data.read_ahead import Guarded, checked, loader_options
from biod2c_core.model.vision import PixelScale
from biod2c_core.ops.square import square
from biod2c_core.training.inputs.collate import read_pictures

SIDE, BATCH = 512, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def make_pictures(folder: Path, count: int) -> list[Path]:
    """Smooth noise, as detailed as a photograph; every second one grey."""
    generator, paths = np.random.default_rng(0), []
    for index in range(count):
        coarse = generator.integers(0, 256, (125, 137, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((1100, 1000), Image.Resampling.BICUBIC)
        paths.append(folder / f"{index}.jpg")
        (picture.convert("L") if index % 2 else picture).save(paths[-1], quality=90)
    return paths


def in_numpy(pixels: np.ndarray) -> torch.Tensor:
    """How a picture was normalized before."""
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    normalized = (pixels.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(normalized.transpose(2, 0, 1).copy())


def steps(paths: Sequence[Path]) -> dict[str, float]:
    """Milliseconds of processor time a picture, medians."""
    scale = PixelScale(MEAN, STD)
    spent: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        begin = time.process_time()
        result = work()
        spent.setdefault(name, []).append(1000 * (time.process_time() - begin))
        return result

    for path in paths:
        picture = timed("decode", lambda path=path: load_image(path))
        pixels = timed("resize", lambda picture=picture: square(picture, SIDE))
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        before = timed("normalize before", lambda pixels=pixels: in_numpy(pixels))
        after = timed("normalize now", lambda tensor=tensor: scale(tensor))
        assert torch.equal(before, after)
    return {name: statistics.median(times) for name, times in spent.items()}


class Epochs:
    """The same batches, as often as asked for, by workers that stay."""

    def __init__(self, paths: Sequence[Path], workers: int) -> None:
        parts = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
        self.loader = DataLoader(
            parts,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=Guarded(partial(read_pictures, side=SIDE)),
            persistent_workers=workers > 0,
            **loader_options(workers),
        )

    def __call__(self) -> list[torch.Tensor]:
        """One epoch."""
        return [checked(batch) for batch in self.loader]


def spin(count: int) -> int:
    """Pure computation."""
    return sum(range(count))


def seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(paths: Sequence[Path], workers: int, rounds: int) -> tuple[list[float], list[float]]:
    """How many times faster workers are, and pure computation in as many processes, in turn."""
    parts = [10_000_000] * workers
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        list(pool.map(spin, parts))  # its processes start now, before there is a thread
        alone, together = Epochs(paths, 0), Epochs(paths, workers)
        assert all(map(torch.equal, alone(), together())), "the bytes differ"  # also the warm-up
        gains, limits = [], []
        for _ in range(rounds):
            gains.append(seconds(alone) / seconds(together))
            serial = seconds(lambda: [spin(each) for each in parts])
            limits.append(serial / seconds(lambda: list(pool.map(spin, parts))))
    return gains, limits


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=48)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        paths = (
            sorted(asked.folder.rglob("*.jp*g"))[: asked.pictures]
            if asked.folder
            else make_pictures(Path(made), asked.pictures)
        )
        for name, spent in steps(paths).items():
            print(f"{name:17} {spent:5.1f} ms", flush=True)
        gains, limits = compare(paths, asked.workers, asked.rounds)
    print(f"{asked.workers} workers: {statistics.median(gains):.2f} x the pictures a second of 0")
    print(f"rounds: {', '.join(f'{each:.2f}' for each in gains)}")
    control, load = statistics.median(limits), os.getloadavg()[0]
    print(f"pure computation likewise: {control:.2f} x; load of the machine {load:.1f}")


if __name__ == "__main__":
    main()
