"""What keeping the trunk's features in fewer bits does to them, and to the losses of a training.

    python benchmarks/cached_features.py DATA [--model biod2c-tiny] [--steps 40] [--batch 8]

DATA has the splits train and test. First X_v of each of its images is computed in float32, kept as each
`feature_type` keeps it, and compared. Then the second stage goes on from the model for so many steps: with
X_v computed anew (in float32) and with each type, of the same seed, so that order and dropout are the same;
and, as a control of what chance does, with X_v computed anew and another seed. The loss on the test
questions is measured after the last step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from biod2c_core.append_log import read_rows
from biod2c_core.config import TrainingConfig, load_config
from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.images import resolve_image
from biod2c_core.data.records import write_records
from biod2c_core.model.checkpoints.folder import load_model_to_train, load_processor, locate
from biod2c_core.training.inputs.collate import read_pictures
from biod2c_core.training.inputs.feature_cache import pack, row_bytes, unpack
from biod2c_core.training.logs.run_log import SilentReporter
from biod2c_core.training.train import train

KINDS = ("float16", "bfloat16", "float8")


@torch.no_grad()
def compare_features(model: str, paths: Sequence[Path]) -> None:
    """Print what rounding takes from X_v of these images."""
    folder = locate(model)
    tower, processor = load_model_to_train(folder, torch.float32).vision, load_processor(folder)
    tower.accept_bytes(processor.image_mean, processor.image_std)
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for path in paths:
        whole = tower(read_pictures([path], processor.image_size))
        for kind in KINDS:
            kept = unpack(pack(whole, kind)[0], kind).float().view(whole.shape)
            error = kept - whole
            lost = ((kept == 0) & (whole != 0)).float().mean()
            found[kind].append(
                (
                    float(error.norm() / whole.norm()),
                    float(error.abs().max() / whole.abs().max()),
                    float(lost),
                )
            )
    height, width, channels = whole.shape[1:]
    print(f"{len(paths)} images, X_v of {height} x {width} x {channels}\n")
    print("| kept as | KiB an image | error / X_v | largest error / largest number | become 0 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind, rows in found.items():
        size = row_bytes((height, width, channels), kind) / 1024
        norm, largest, lost = map(statistics.fmean, zip(*rows, strict=True))
        print(f"| {kind} | {size:,.0f} | {norm:.1e} | {largest:.1e} | {lost:.2%} |")


def losses(
    config: TrainingConfig, model: str, data: tuple[Path, Path], folder: Path
) -> tuple[list[float], float]:
    """The loss of each step, and of validation after the last."""
    output = folder / "run"
    train(
        config,
        2,
        [data[0]],
        output,
        SilentReporter(),
        checkpoint=model,
        validation=data[1],
        device="cpu",
    )
    rows = [row for _, row in read_rows(output / "log.jsonl")]
    steps = [row["loss"] for row in rows if "loss" in row]
    return steps, next(row["eval_loss"] for row in reversed(rows) if "eval_loss" in row)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="biod2c-tiny")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--questions", type=int, help="of each split; default: all")
    arguments = parser.parse_args()
    root, records = image_root(arguments.data), read_records(arguments.data)
    paths = sorted({resolve_image(root, record.image) for record in records})
    compare_features(arguments.model, paths)
    preset = load_config("tiny")
    stage = replace(
        preset.stage2,
        batch_size=arguments.batch,
        max_steps=arguments.steps,
        learning_rate=1e-4,
        bf16=False,
        log_every=1,
        save_every=0,
        validate_every=arguments.steps,
    )
    print(f"\n{arguments.steps} steps of {arguments.batch} questions\n")
    print("| X_v | seed | training loss | difference of a step | validation loss |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    anew: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        data = (Path(place) / "train.jsonl", Path(place) / "validation.jsonl")
        for path, split in zip(data, ("train", "test"), strict=True):
            rows = [each for each in records if each.split == split][: arguments.questions]
            write_records(path, [r.changed(image=f"data/{r.image}", split="") for r in rows])
        (Path(place) / "data").symlink_to(root.resolve())
        for name, seed in (
            ("computed anew", 0),
            *((kind, 0) for kind in KINDS),
            ("computed anew", 1),
        ):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["BIOD2C_CACHE"] = folder
                kept = name in KINDS
                kind = {"feature_type": name} if kept else {}
                settings = replace(stage, seed=seed, cache_features=kept, **kind)
                steps, after = losses(
                    replace(preset, stage2=settings), arguments.model, data, Path(folder)
                )
            anew = anew or steps
            gap = statistics.fmean(abs(a - b) for a, b in zip(steps, anew, strict=True))
            print(
                f"| {name} | {seed} | {statistics.fmean(steps):.4f} | {gap:.1e} | {after:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
