"""How much of a finding the style of a picture gives away: a probe that sees no place and no shape.

    python recipes/tiny/style.py --data DATA

A logistic regression on size, format, colours and sharpness is fitted to the training pictures of each
finding, and asked about those of the development and the final side. What a model says of a finding is
worth what it has above this.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pictures import Picture, read_pictures
from PIL import Image
from report import between
from torch import Tensor

FINDINGS = ("tumour", "chest_abnormal", "malignant", "breast_abnormal")
BINS = 16
DECAYS = (1e-3, 1e-2, 1e-1)


def style(picture: Picture, root: Path) -> np.ndarray:
    """(F,), float32: the file's size and format, histograms, and how sharp it is."""
    path = root / picture.image
    with Image.open(path) as image:
        kind = [image.format == each for each in ("JPEG", "PNG", "TIFF")]
        pixels = np.asarray(image.convert("RGB").resize((256, 256)), np.float32) / 255
    width, height = picture.size
    shades = [np.histogram(pixels[..., c], BINS, (0, 1))[0] / 256**2 for c in range(3)]
    grey = pixels.mean(2)
    edges = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    bent = np.abs(np.diff(grey, 2, axis=0)).mean()
    spread = pixels.max(2) - pixels.min(2)  # of the colours: 0 in a grey picture
    bytes_a_pixel = path.stat().st_size / (width * height)
    sizes = [np.log(width), np.log(height), width / height, np.log(bytes_a_pixel)]
    rest = [*pixels.mean((0, 1)), *pixels.std((0, 1)), spread.mean(), *edges, bent]
    return np.array([*kind, *sizes, *rest, *np.concatenate(shades)], np.float32)


def fit(values: Tensor, truth: Tensor, decay: float) -> Tensor:
    """Weights of a logistic regression, (F + 1,); both answers count alike."""
    weights = torch.zeros(values.shape[1] + 1, requires_grad=True)
    balance = torch.where(truth > 0, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    optimizer = torch.optim.LBFGS([weights], max_iter=200)

    def loss() -> Tensor:
        optimizer.zero_grad()
        said = values @ weights[:-1] + weights[-1]
        total = F.binary_cross_entropy_with_logits(said, truth, balance)
        total = total + decay * weights[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def right(weights: Tensor, values: Tensor, truth: Tensor) -> np.ndarray:
    """Whether each picture is named rightly."""
    return (((values @ weights[:-1] + weights[-1]) > 0) == (truth > 0)).numpy()


def probe(pictures: list[Picture], finding: str, root: Path) -> dict[str, np.ndarray]:
    """Which left-out pictures it names rightly, by side; its decay is chosen on a fifth of training."""
    own = [p for p in pictures if finding in p.facts]
    values = torch.from_numpy(np.stack([style(p, root) for p in own]))
    truth = torch.tensor([float(p.facts[finding] == "yes") for p in own])
    part = np.array([p.part for p in own])
    trained = torch.from_numpy(part == "train")
    values = (values - values[trained].mean(0)) / values[trained].std(0).clamp_min(1e-6)
    inner = torch.from_numpy(np.random.default_rng(0).random(len(own)) < 0.2) & trained
    outer = trained & ~inner
    scores = {
        decay: right(fit(values[outer], truth[outer], decay), values[inner], truth[inner]).mean()
        for decay in DECAYS
    }
    weights = fit(values[trained], truth[trained], max(scores, key=lambda each: scores[each]))
    sides = {side: torch.from_numpy(part == side) for side in ("development", "final")}
    return {side: right(weights, values[rows], truth[rows]) for side, rows in sides.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    pictures = read_pictures(given.data)
    print("| finding | side | pictures | right | interval |\n|---|---|---|---|---|")
    for finding in FINDINGS:
        for side, named in probe(pictures, finding, given.data).items():
            low, high = between(enumerate(named))
            share = f"{named.mean():.3f} | {low:.2f} to {high:.2f}"
            print(f"| {finding} | {side} | {len(named)} | {share} |")


if __name__ == "__main__":
    main()
