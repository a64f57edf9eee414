"""How often familiarity tells a kind of picture that the trunk has never met.

    PYTHONPATH=recipes/tiny python recipes/world/unknown.py "fundus photography" RUN \
      --data DATA --weights IMAGENET.safetensors [--seed 0]

The trunk is pretrained as `trunk.py` does it, but without one modality, and what `biod2c calibrate` keeps of
training pictures is made of those that are left. Familiarity rests on these two alone, so nothing else is
trained. A table goes to stdout, trunk and numbers to RUN.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pictures import FOLDERS, Picture, read_pictures
from safetensors.torch import load_file, save_file
from torch import Tensor
from trunk import EPOCHS, train

from biod2c_core.inference.questions import is_unlike
from biod2c_core.model.checkpoints.folder import EMBEDDED, load_model_config, load_processor
from biod2c_core.model.familiarity import Reference
from biod2c_core.model.vision import VisionTower
from biod2c_core.training.inputs.collate import read_pictures as read_pixels

AT_ONCE = 16
DRAWS = 2000


def read_tower(trunk: Path) -> VisionTower:
    """The tower of the model in the package, with another trunk."""
    vision, processor = load_model_config(EMBEDDED).vision, load_processor(EMBEDDED)
    tower = VisionTower(**{**vision, "levels": tuple(vision["levels"])})
    tower.trunk.load_state_dict(load_file(trunk))
    tower.accept_bytes(processor.image_mean, processor.image_std)
    return tower


@torch.no_grad()
def summaries(tower: VisionTower, pictures: Sequence[Picture], root: Path) -> Tensor:
    """Mean and maximum of X_v over the grid of each picture, (n, F)."""
    paths, found = [root / picture.image for picture in pictures], []
    for start in range(0, len(paths), AT_ONCE):
        grid = tower(read_pixels(paths[start : start + AT_ONCE], tower.image_size))
        found.append(torch.cat([grid.mean((1, 2)), grid.amax((1, 2))], 1).float())
    return torch.cat(found)


def interval(flagged: list[bool]) -> list[float]:
    """95 % of bootstrap draws over pictures."""
    drawn = np.random.default_rng(0).choice(flagged, (DRAWS, len(flagged)))
    return [float(each) for each in np.percentile(drawn.mean(1), [2.5, 97.5])]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modality", help="that is left out")
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    given = parser.parse_args()
    given.run.mkdir(parents=True, exist_ok=True)
    pictures = read_pictures(given.data)
    unknown = [p for p in pictures if p.facts.get("modality") == given.modality]
    known = [p for p in pictures if p.facts.get("modality") != given.modality]
    trained = [p for p in known if p.part == "train"]
    trunk = given.run / "trunk.safetensors"
    if not trunk.exists():
        made = train(trained, given.data, given.weights, given.seed, given.epochs).state_dict()
        kept = {k: v for k, v in made.items() if not k.startswith("heads.")}
        save_file({f"model.{k}": v.clone().contiguous() for k, v in kept.items()}, trunk)
    kinds = {p.facts.get("modality") for p in trained}
    own = [p for p in known if FOLDERS[p.source].get("part") is None and p.part != "train"]
    new = [p for p in known if FOLDERS[p.source].get("part") in ("development", "final")]
    groups = {
        f"{given.modality}, left out": unknown,
        "other pictures of training's sources (final)": [p for p in own if p.part == "final"],
        "other sources of kinds in training": [p for p in new if p.facts.get("modality") in kinds],
    }
    tower = read_tower(trunk)
    left_out = summaries(tower, [p for p in own if p.part == "development"], given.data)
    reference = Reference.fit(summaries(tower, trained, given.data), left_out)
    rows = {}
    print("| pictures | n | told to be unlike | interval |\n|---|---|---|---|")
    for name, some in groups.items():
        flagged = list(map(is_unlike, reference.familiarity(summaries(tower, some, given.data))))
        low, high = interval(flagged)
        rows[name] = {"n": len(some), "unlike": float(np.mean(flagged)), "interval": [low, high]}
        print(f"| {name} | {len(some)} | {np.mean(flagged):.3f} | {low:.2f} to {high:.2f} |")
    (given.run / "unknown.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
