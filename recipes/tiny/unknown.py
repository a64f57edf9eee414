"""What is said of a kind of picture that no part of the model has ever met; ``unknown.sh`` runs all steps.

    python recipes/tiny/unknown.py records  OUT MODALITY          # those of make.sh, without the kind
    python recipes/tiny/unknown.py trunk    OUT MODALITY --data DATA
    python recipes/tiny/unknown.py score    OUT MODALITY --model MODEL

``records`` leaves out the pictures of the kind, and every question, answer and line of text that names it.
``trunk`` pretrains as ``trunk.py`` does it, but for VQA-RAD's pictures, and says how often familiarity, which
rests on the trunk alone, tells the kind at the size that the package's model reads. ``score`` asks a trained
and calibrated model about pictures of the kind.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pictures import FOLDERS, Picture, read_pictures
from questions import NAMED
from report import ask, between, modality_of, right, sampled
from safetensors.torch import load_file
from torch import Tensor
from trunk import EPOCHS, save_trunk, train
from vqa_rad import read_vqa_rad, vqa_rad_pictures

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.inference.calibration import load_calibration
from biod2c_core.inference.questions import is_unlike
from biod2c_core.model.checkpoints.folder import EMBEDDED, load_model_config, load_processor
from biod2c_core.model.familiarity import Reference
from biod2c_core.model.generation import Answerer
from biod2c_core.model.vision import VisionTower
from biod2c_core.training.inputs.collate import read_pictures as read_pixels

TRAINING = ("captions", "single", "kinds", "findings", "things", "vqa_rad")
LEFT_OUT = ("development_own", "development_new")
SURE = 0.8  # what stands for the recommended confidence where no threshold leaves 95 % right
AT_ONCE = 16


def variant_of(modality: str) -> str:
    """The name of the records and models without a kind."""
    return "no_" + modality.lower().replace(" ", "_")


def naming(modality: str) -> re.Pattern[str]:
    """Matches text that names the kind, in any of the words that questions use for it."""
    names = (re.sub("^an? | (image|photo(graph)?|scan)$", "", name) for name in NAMED[modality])
    words = {modality, modality.removesuffix(" photography"), *names}
    either = "|".join(map(re.escape, sorted(words)))
    return re.compile(rf"\b(?:{either})s?\b", re.IGNORECASE)


def without_kind(
    records: Iterable[Record], images: set[str], named: re.Pattern[str]
) -> list[Record]:
    """The records that neither show a picture of the kind nor name it, their queues likewise."""
    kept = []
    for record in records:
        said = (record.question, record.answer, record.caption or "")
        if record.tags["base"] in images or any(map(named.search, said)):
            continue
        queue = tuple(text for text in record.queue if not named.search(text))
        kept.append(replace(record, queue=queue))
    return kept


def write_without(data: Path, modality: str, root: Path) -> None:
    """All files that training and calibration read, without the kind."""
    named, variant = naming(modality), variant_of(modality)
    pictures = [*read_pictures(root), *vqa_rad_pictures(root, read_vqa_rad(root)[0])]
    images = {p.image for p in pictures if p.facts.get("modality") == modality}
    if not images:
        raise SystemExit(f"no picture below {root} is {modality!r}")
    sources = {name: data / f"official_{name}.jsonl" for name in TRAINING}
    sources |= {name: data / f"{name}.jsonl" for name in LEFT_OUT}
    for name, path in sources.items():
        kept = without_kind(read_records(path), images, named)
        write_records(data / f"{variant}_{name}.jsonl", kept)
    lines = (data / "official_language.txt").read_text("utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not named.search(line))
    with atomic_open(data / f"{variant}_language.txt") as file:  # unknown.sh: the last
        file.write(text)


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


def print_shares(title: str, groups: dict[str, list[bool]]) -> None:
    """One row a group."""
    print(f"| {title} | n | share | interval |\n|---|---|---|---|")
    for name, flagged in groups.items():
        low, high = between(enumerate(flagged))
        print(f"| {name} | {len(flagged)} | {np.mean(flagged):.3f} | {low:.2f} to {high:.2f} |")


def pretrain(out: Path, modality: str, root: Path) -> None:
    """A trunk that has never met the kind, and how often what is unlike its pictures is told."""
    pictures = read_pictures(root)
    unknown = [p for p in pictures if p.facts.get("modality") == modality]
    known = [p for p in pictures if p.facts.get("modality") != modality]
    trained = [p for p in known if p.part == "train"]
    trunk = out / f"{variant_of(modality)}-trunk.safetensors"
    if not trunk.exists():
        save_trunk(train(trained, root, out / "imagenet.safetensors", 0, EPOCHS), trunk)
    kinds = {p.facts.get("modality") for p in trained}
    own = [p for p in known if FOLDERS[p.source].get("part") is None and p.part != "train"]
    new = [p for p in known if FOLDERS[p.source].get("part") in ("development", "final")]
    groups = {
        f"{modality}, left out": unknown,
        "other pictures of training's sources (final)": [p for p in own if p.part == "final"],
        "other sources of kinds in training": [p for p in new if p.facts.get("modality") in kinds],
    }
    tower = read_tower(trunk)
    left_out = summaries(tower, [p for p in own if p.part == "development"], root)
    reference = Reference.fit(summaries(tower, trained, root), left_out)
    print_shares(
        "told to be unlike",
        {
            name: [*map(is_unlike, reference.familiarity(summaries(tower, some, root)))]
            for name, some in groups.items()
        },
    )


def score(out: Path, modality: str, model: Path) -> None:
    """Ask about the kind and about known ones: how many answers are flagged, or not sure enough."""
    data, run = out / "data", out / f"{variant_of(modality)}-scores"
    run.mkdir(parents=True, exist_ok=True)
    records = [*read_records(data / "development.jsonl"), *read_records(data / "final.jsonl")]
    images = {base for base, answer in modality_of(records).items() if answer == modality}
    known = sampled(list(read_records(data / f"{variant_of(modality)}_development_new.jsonl")))
    asked = {"unknown": [r for r in records if r.tags["base"] in images], "known": known}
    answerer = Answerer.load(str(model))
    calibration = load_calibration(model, answerer.identity)
    if calibration is None:
        raise SystemExit(f"{model} is not calibrated: run biod2c calibrate")
    stored = json.loads((model / "calibration.json").read_text("utf-8"))
    recommended = stored["recommended_min_confidence"] or SURE
    print(f"recommended: {stored['recommended_min_confidence']}, counted with {recommended}")
    groups: dict[str, list[bool]] = {}
    for name, some in asked.items():
        some = [r for r in some if r.tags["task"] in ("modality", "organ")]
        write_records(run / f"{name}.jsonl", some)
        unlike, unsure, wrong = [], [], []
        for question in ask(answerer, run / f"{name}.jsonl", data, run, False):
            said = question.prediction
            sure = calibration.curve(said.answer)(said.confidence or 0.0, said.familiarity)
            unlike.append(is_unlike(said.familiarity))
            unsure.append(sure < recommended)
            wrong.append(right(question) < 1)
        either = [a or b for a, b in zip(unlike, unsure, strict=True)]
        groups[f"{name}: flagged"] = unlike
        groups[f"{name}: below the confidence"] = unsure
        groups[f"{name}: either"] = either
        groups[f"{name}: wrong"] = wrong
        groups[f"{name}: wrong, and neither"] = [
            w and not e for w, e in zip(wrong, either, strict=True)
        ]
    print_shares(f"questions about modality and organ, {modality} left out", groups)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=["records", "trunk", "score"])
    parser.add_argument("out", type=Path, help="folder of make.sh")
    parser.add_argument("modality", help="that is left out, such as ultrasound")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--model", type=Path, help="trained and calibrated, to score")
    given = parser.parse_args()
    if given.modality not in NAMED:
        parser.error(f"{given.modality!r} is none of {', '.join(sorted(NAMED))}")
    if given.step == "records":
        write_without(given.out / "data", given.modality, given.data)
    elif given.step == "trunk":
        pretrain(given.out, given.modality, given.data)
    else:
        score(given.out, given.modality, given.model)


if __name__ == "__main__":
    main()
