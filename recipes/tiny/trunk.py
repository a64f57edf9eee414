"""The vision trunk, pretrained on biomedical pictures as the paper's encoder is; frozen afterwards.

EfficientNet-Lite0 begins with its ImageNet weights and learns to name what the labels of the training
pictures say (modality, organ, plane, view, findings), where boxed objects lie, and where the arrows
point that are drawn on some pictures. Only the trunk is kept: what the heads name, BioD2C has to say
in words.

    python recipes/tiny/trunk.py OUT.safetensors --data DATA --weights IMAGENET.safetensors [--seed 0]
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from arrows import Arrow, draw, pick_colour, random_arrow, visible
from pictures import BOXED, NO_ARROWS, Picture, read_pictures, rng_for
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from vqa_rad import read_vqa_rad, vqa_rad_pictures

from biod2c_core.training.hardware.precision import computes_in_bf16

SIDE = 256  # pixels, in training; the map of stride 16 then has 16 x 16 cells
STORED = 288  # pixels, in memory
CELLS = SIDE // 16
BATCH = 32
EPOCHS = 4.0
RATE, HEAD_RATE = 4e-4, 3e-3
FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1")  # edges and textures stay ImageNet's
OBJECTS = ("polyp", "white blood cell", "red blood cell", "platelet", "nucleus")
DIRECTIONS = 8
ARROWS = 0.3  # share of the pictures on which one or two are drawn
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Sample:
    """A picture as it is shown once, with its targets.

    Attributes:
        pixels: ``(SIDE, SIDE, 3)`` uint8.
        tips: The cells in which arrows end, by ``row * CELLS + column``.
        ways: The direction of each, in eighths of a turn.
        objects: ``(OBJECTS, CELLS, CELLS)``, 1 where a box lies; NaN where nobody boxed.
    """

    pixels: np.ndarray
    tips: list[int]
    ways: list[int]
    objects: np.ndarray


class Views(torch.utils.data.Dataset[tuple[int, Sample]]):
    """Each picture as another camera, cut, or screen might have given it."""

    def __init__(self, pictures: list[Picture], root: Path, seed: int) -> None:
        self.pictures, self.seed = pictures, seed
        self.stored = np.stack([_load(root / picture.image) for picture in pictures])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, Sample]:
        index, epoch = key
        rng = rng_for(self.seed, "view", epoch, index)
        return index, view(self.pictures[index], self.stored[index], rng)


def _load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((STORED, STORED), Image.Resampling.BICUBIC))


def view(picture: Picture, stored: np.ndarray, rng: random.Random) -> Sample:
    """Cut, tilted where nothing is boxed, maybe with arrows, lighter or darker, blurred or compressed."""
    image = Image.fromarray(stored)
    if picture.source not in BOXED:
        image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
    zoom, stretch = rng.uniform(0.72, 1.05), rng.uniform(0.92, 1.08)
    width, height = STORED * zoom * stretch, STORED * zoom / stretch
    left, top = rng.uniform(0, STORED - width), rng.uniform(0, STORED - height)
    window = (left, top, left + width, top + height)
    image = image.transform((SIDE, SIDE), Image.Transform.EXTENT, window, Image.Resampling.BILINEAR)
    arrows = _arrows(image, rng) if _may_have_arrows(picture, rng) else []
    pixels = _other_camera(draw(image, arrows), rng)
    tips = [int(a.tip[1] // 16) * CELLS + int(a.tip[0] // 16) for a in arrows]
    ways = [round(a.angle / (360 / DIRECTIONS)) % DIRECTIONS for a in arrows]
    return Sample(np.asarray(pixels), tips, ways, _objects(picture, window))


def _may_have_arrows(picture: Picture, rng: random.Random) -> bool:
    drawn = rng.random() < ARROWS
    return drawn and picture.source != "vqa_rad" and picture.facts.get("modality") not in NO_ARROWS


def _arrows(image: Image.Image, rng: random.Random) -> list[Arrow]:
    canvas = Picture("", "", image.size, {})
    found: list[Arrow] = []
    for _ in range(1 + (rng.random() < 0.3)):
        for _ in range(12):
            tip = (rng.uniform(4, SIDE - 4), rng.uniform(4, SIDE - 4))
            arrow = random_arrow(tip, rng.uniform(0, 360), canvas, rng)
            if visible(arrow, canvas):
                colour = pick_colour(image, [arrow.tip, arrow.tail], rng)
                found.append(Arrow(**{**vars(arrow), "colour": colour}))
                break
    return found


def _other_camera(image: Image.Image, rng: random.Random) -> Image.Image:
    gain, gamma, lift = rng.uniform(0.8, 1.25), rng.uniform(0.6, 1.6), rng.uniform(-20, 20)
    curve = [min(255, max(0, round(255 * gain * (v / 255) ** gamma + lift))) for v in range(256)]
    tints = [rng.uniform(0.92, 1.08) for _ in "rgb"] if rng.random() < 0.3 else [1.0] * 3
    image = image.point([min(255, round(tint * v)) for tint in tints for v in curve])
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.25:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(30, 90))
        image = Image.open(file)
    return image


def _objects(picture: Picture, window: tuple[float, float, float, float]) -> np.ndarray:
    shown = np.full((len(OBJECTS), CELLS, CELLS), np.nan, np.float32)
    if picture.source not in BOXED:
        return shown
    shown[:] = 0
    left, top, right, bottom = window
    for thing in picture.things:
        across = [v / picture.size[0] * STORED for v in thing.box[::2]]
        down = [v / picture.size[1] * STORED for v in thing.box[1::2]]
        columns = [(v - left) / (right - left) * CELLS for v in across]
        rows = [(v - top) / (bottom - top) * CELLS for v in down]
        first, last = (max(0, math.floor(v[0])) for v in (rows, columns))
        ends = slice(first, max(0, math.ceil(rows[1]))), slice(last, max(0, math.ceil(columns[1])))
        shown[OBJECTS.index(thing.name)][ends] = 1
    return shown


class Heads(nn.Module):
    """What the trunk is asked in training: one answer a task, and cells."""

    def __init__(self, channels: list[int], answers: dict[str, list[str]]) -> None:
        super().__init__()
        width = sum(channels)
        self.tasks = nn.ModuleDict(
            {task: nn.Linear(width, len(all)) for task, all in answers.items()}
        )
        self.dropout = nn.Dropout(0.2)
        self.cells = nn.Sequential(nn.Conv2d(width, 128, 1), nn.ReLU())
        self.tip, self.way = nn.Conv2d(128, 1, 1), nn.Conv2d(128, DIRECTIONS, 1)
        self.none = nn.Linear(width, 1)  # no arrow at all
        self.objects = nn.Conv2d(128, len(OBJECTS), 1)

    def forward(self, levels: list[Tensor]) -> dict[str, Tensor]:
        """[(B, C, h, w)] -> (B, answers) a task, ``tip`` (B, cells + 1), ``way``, ``objects``."""
        near, far = (level.float() for level in levels)
        pooled = torch.cat([near.mean((2, 3)), far.mean((2, 3))], 1)  # (B, C)
        both = torch.cat([near, F.interpolate(far, near.shape[2:], mode="bilinear")], 1)
        cells = self.cells(both)
        said = {task: head(self.dropout(pooled)) for task, head in self.tasks.items()}
        tip = torch.cat([self.tip(cells).flatten(1), self.none(pooled)], 1)
        return said | {"tip": tip, "way": self.way(cells), "objects": self.objects(cells)}


def loss_of(
    said: dict[str, Tensor],
    targets: dict[str, Tensor],
    samples: list[Sample],
    weights: dict[str, Tensor],
) -> Tensor:
    """The sum of the tasks' mean losses; what is not known of a picture costs nothing."""
    parts = []
    for task, target in targets.items():
        known = target >= 0
        if known.any():
            loss = F.cross_entropy(
                said[task][known],
                target[known],
                weights[task],
                label_smoothing=0.05,
                reduction="sum",
            )
            parts.append(loss / len(target) * len(target) ** 0.5 / known.sum() ** 0.5)
    aim = torch.zeros_like(said["tip"])
    for row, sample in enumerate(samples):
        for cell in sample.tips or [CELLS * CELLS]:
            aim[row, cell] += 1 / max(1, len(sample.tips))
    parts.append(F.cross_entropy(said["tip"], aim))
    at = [
        (row, t // CELLS, t % CELLS, w)
        for row, s in enumerate(samples)
        for t, w in zip(s.tips, s.ways, strict=True)
    ]
    if at:
        rows, downs, acrosses, ways = torch.tensor(at).T
        parts.append(F.cross_entropy(said["way"][rows, :, downs, acrosses], ways))
    objects = torch.from_numpy(np.stack([sample.objects for sample in samples]))
    known = ~objects.isnan()
    if known.any():
        parts.append(F.binary_cross_entropy_with_logits(said["objects"][known], objects[known]))
    return torch.stack(parts).sum()


def answers_of(pictures: list[Picture]) -> dict[str, list[str]]:
    """All answers of each task among the pictures."""
    found: dict[str, set[str]] = {}
    for picture in pictures:
        for task, answer in picture.facts.items():
            found.setdefault(task, set()).add(answer)
    return {task: sorted(all) for task, all in sorted(found.items()) if len(all) > 1}


def class_weights(pictures: list[Picture], answers: dict[str, list[str]]) -> dict[str, Tensor]:
    """Rare answers count more, by the root of how rare they are; their mean over the pictures is 1."""
    weights = {}
    for task, all in answers.items():
        numbers = Counter(p.facts[task] for p in pictures if task in p.facts)
        counts = torch.tensor([float(numbers[answer]) for answer in all])
        weight = counts.rsqrt()
        weights[task] = weight / (weight * counts).sum() * counts.sum()
    return weights


def targets_of(pictures: list[Picture], answers: dict[str, list[str]]) -> dict[str, Tensor]:
    """The number of each picture's answer, -1 where it has none."""
    return {
        task: torch.tensor(
            [all.index(p.facts[task]) if p.facts.get(task) in all else -1 for p in pictures]
        )
        for task, all in answers.items()
    }


def batches(count: int, epochs: float, seed: int) -> Iterator[list[tuple[int, int]]]:
    """(index, epoch) pairs, every picture once an epoch."""
    keys: list[tuple[int, int]] = []
    for epoch in range(math.ceil(epochs)):
        order = list(range(count))
        random.Random(seed * 1000 + epoch).shuffle(order)
        keys += [(index, epoch) for index in order]
    keys = keys[: round(count * epochs)]
    for start in range(0, len(keys) - BATCH + 1, BATCH):
        yield keys[start : start + BATCH]


def normalized(pixels: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in ImageNet's units, channels last in memory."""
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((values - mean) / std).contiguous(memory_format=torch.channels_last)


def build_trunk(weights: Path) -> nn.Module:
    """The trunk as BioD2C has it, its first layers and all its running statistics frozen."""
    import timm

    trunk = timm.create_model("efficientnet_lite0", features_only=True, out_indices=(3, 4))
    trunk.load_state_dict(
        {k.removeprefix("model."): v.float() for k, v in load_file(weights).items()}
    )
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad = not name.startswith(FROZEN)
    return trunk.to(memory_format=torch.channels_last)


def train(
    pictures: list[Picture], root: Path, weights: Path, seed: int, epochs: float
) -> nn.Module:
    """Train trunk and heads; the trunk is returned."""
    torch.manual_seed(seed)
    trunk = build_trunk(weights).eval()  # BatchNorm keeps ImageNet's statistics
    answers = answers_of(pictures)
    heads = Heads(trunk.feature_info.channels(), answers)
    targets, weight = targets_of(pictures, answers), class_weights(pictures, answers)
    trained = [p for p in trunk.parameters() if p.requires_grad]
    groups = [{"params": trained, "lr": RATE}, {"params": heads.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
    plan = list(batches(len(pictures), epochs, seed))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [RATE, HEAD_RATE], total_steps=len(plan) + 1, pct_start=0.1
    )
    loader = torch.utils.data.DataLoader(
        Views(pictures, root, seed),
        batch_sampler=plan,
        num_workers=1,
        collate_fn=list,
        prefetch_factor=6,
    )
    started, losses = time.monotonic(), []
    for step, rows in enumerate(loader, 1):
        indices = torch.tensor([index for index, _ in rows])
        samples = [sample for _, sample in rows]
        pixels = normalized(np.stack([sample.pixels for sample in samples]))
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bf16(True)):
            levels = trunk(pixels)
        known = {task: target[indices] for task, target in targets.items()}
        loss = loss_of(heads(levels), known, samples, weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*trained, *heads.parameters()], 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 25 == 0:
            mean, seconds = np.mean(losses[-25:]), time.monotonic() - started
            print(f"step {step} of {len(plan)}, loss {mean:.3f}, {seconds:.0f} s", flush=True)
    trunk.heads = heads  # for the report
    trunk.answers = answers
    return trunk


@torch.no_grad()
def report(trunk: nn.Module, pictures: list[Picture], root: Path) -> dict[str, dict[str, float]]:
    """How many of the left-out pictures the heads name rightly, by task."""
    heads = trunk.heads.eval()
    right: dict[str, list[bool]] = {}
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        loaded = np.stack([_load(root / p.image) for p in some])
        said = heads(trunk(normalized(loaded)))
        for task, all in trunk.answers.items():
            for row, picture in enumerate(some):
                if picture.facts.get(task) in all:
                    best = all[int(said[task][row].argmax())]
                    right.setdefault(task, []).append(best == picture.facts[task])
                    if task not in ("modality", "organ", "medical"):
                        right.setdefault(f"{task} {picture.source}", []).append(
                            best == picture.facts[task]
                        )
    return {task: {"accuracy": float(np.mean(r)), "n": len(r)} for task, r in sorted(right.items())}


def save_trunk(trunk: nn.Module, path: Path) -> None:
    """Write what BioD2C reads, without the heads."""
    kept = {k: v for k, v in trunk.state_dict().items() if not k.startswith("heads.")}
    save_file({f"model.{k}": v.clone().contiguous() for k, v in kept.items()}, path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    given = parser.parse_args()
    everything = read_pictures(given.data)
    rows, test = read_vqa_rad(given.data)
    unseen = {row["image_name"] for row in test}  # so that one trunk serves every variant
    pictures = [p for p in everything if p.part == "train"]
    pictures += vqa_rad_pictures(given.data, [r for r in rows if r["image_name"] not in unseen])
    trunk = train(pictures, given.data, given.weights, given.seed, given.epochs)
    left_out = [p for p in everything if p.part == "development"]
    scores = report(trunk, left_out, given.data)
    given.out.with_suffix(".json").write_text(json.dumps(scores, indent=1) + "\n", "utf-8")
    for task, score in scores.items():
        print(f"{task}: {score['accuracy']:.3f} of {score['n']}")
    save_trunk(trunk, given.out)


if __name__ == "__main__":
    main()
