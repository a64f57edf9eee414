"""Read the labelled image folders into one form: a ``Picture`` with its labels and its split."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BOX_NAMES = {
    "WBC": "white blood cell",
    "RBC": "red blood cell",
    "Platelets": "platelet",
    "polyp": "polyp",
    "nucleus": "nucleus",
}
PixelBox = tuple[float, float, float, float]  # left, top, right, bottom in pixels
LABELLED = ("blood_cells", "nuclei", "endoscopy", "ct_contrast", "oct")
ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}
# What the publication of VQA-RAD says of all its images; of a head it may be CT or MRI.
MODALITY_WORDS = {
    "MRI": r"\bmri?\b|flair|\bt[12]\b|\bdwi\b|diffusion|\badc\b",
    "CT": r"\bct\b|computed",
    "X-ray": r"x[- ]?ray|radiograph|\bcxr\b|\bfilm\b",
}
PUBLISHED = {"CHEST": {"modality": "X-ray"}, "ABD": {"modality": "CT", "plane": "axial"}}


@dataclass(frozen=True)
class Thing:
    """An object in an image: a name and ``box`` = (left, top, right, bottom) in pixels."""

    name: str
    box: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def area(self) -> int:
        """The area of the box in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    def contains(self, x: float, y: float, margin: float = 0) -> bool:
        """Whether the point lies in the box, widened by ``margin`` pixels."""
        left, top, right, bottom = self.box
        return left - margin <= x <= right + margin and top - margin <= y <= bottom + margin


@dataclass
class Picture:
    """An image and all its labels."""

    source: str
    image: str  # relative to the image root of the recipe: images/<source>/<file>
    size: tuple[int, int]
    labels: dict[str, Any]
    things: list[Thing] = field(default_factory=list)
    part: str = "train"  # of the derived sets: train, validation or heldout
    base: str = ""  # of a crop: the image it was cut from

    @property
    def origin(self) -> str:
        """The published image that this one shows, whole or in part."""
        return self.base or self.image

    @property
    def name(self) -> str:
        """Source and file name, used in ids."""
        return f"{self.source}/{Path(self.image).stem}"

    def count(self, name: str) -> int:
        """How many objects of this name are boxed."""
        return sum(thing.name == name for thing in self.things)


def rng_for(seed: int, *names: object) -> random.Random:
    """A generator that depends on the names alone, so that a subset gives the same draws."""
    return random.Random(zlib.crc32(repr((seed, *names)).encode()))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Decode a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def read_labelled(root: Path, source: str, limit: int = 0) -> list[Picture]:
    """The pictures of one folder with a ``labels.jsonl``; ``limit`` takes evenly spread rows."""
    rows = read_json_lines(root / source / "labels.jsonl")
    if limit:
        rows = rows[:: max(1, len(rows) // limit)]
    pictures = []
    for row in rows:
        with Image.open(root / source / row["image"]) as image:
            size = image.size
        labels = {key: row[key] for key in row if key not in ("image", "boxes")}
        boxes = [(BOX_NAMES[item["label"]], item["box"]) for item in row.get("boxes", [])]
        things = [Thing(name, tuple(box)) for name, box in boxes]
        # A few boxes are empty or a pixel wide: there is nothing to see in them.
        things = [thing for thing in things if min(_sides(thing.box)) >= 3]
        picture = Picture(
            source, f"images/{source}/{Path(row['image']).name}", size, labels, things
        )
        pictures.append(picture)
    return pictures


def _sides(box: tuple[int, int, int, int]) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def read_vqa_rad(root: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """VQA-RAD's official train and test rows, blanks and tabs cleaned, numbers as text."""
    both = []
    for name in ("trainset.json", "testset.json"):
        rows = json.loads((root / "vqa_rad" / name).read_text("utf-8"))
        both.append([{key: " ".join(str(row[key]).split()) for key in row} for row in rows])
    return both[0], both[1]


def told_modality(rows: list[dict[str, str]]) -> str:
    """The modality that the questions about one image give away; empty when they disagree."""
    told = set()
    for row in rows:
        question, answer = row["question"].lower(), row["answer"].lower()
        asked = "modality" in question or "MODALITY" in row["question_type"]
        text = answer if asked and answer not in ("yes", "no") else ""
        premise = re.search(r"(?:this|the) (mri|ct|x-?ray|chest x-?ray)\b", question)
        if premise and "is this" not in question:
            text += f" {premise[1]}"
        if answer == "yes" and (match := re.match(r"is this an? (.*)", question)):
            text += f" {match[1]}"
        told |= {name for name, words in MODALITY_WORDS.items() if re.search(words, text)}
    return told.pop() if len(told) == 1 else ""


def vqa_rad_pictures(root: Path, rows: list[dict[str, str]]) -> list[Picture]:
    """The images of these rows, labelled by organ, by the publication, and by these rows."""
    organ_of = {row["image_name"]: row["image_organ"] for row in rows}
    rows_of: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        rows_of[row["image_name"]].append(row)
    pictures = []
    for name, organ in sorted(organ_of.items()):
        with Image.open(root / "vqa_rad" / "images" / name) as image:
            size = image.size
        labels = {"organ": ORGANS[organ], **PUBLISHED.get(organ, {})}
        told = told_modality(rows_of[name])
        if told and labels.setdefault("modality", told) != told:
            labels = {"organ": ORGANS[organ], "modality": told}
        pictures.append(Picture("vqa_rad", f"images/vqa_rad/{name}", size, labels))
    return pictures


def fingerprint(path: Path, side: int = 24) -> np.ndarray:
    """A small grey version of the image with zero mean and unit norm.

    Returns:
        ``(side * side,)`` float64; the dot product of two is their correlation.
    """
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), float)
    values = grey.ravel() - grey.mean()
    return values / (np.linalg.norm(values) + 1e-9)


def near_duplicate_groups(prints: np.ndarray, threshold: float) -> list[int]:
    """Join images whose fingerprints correlate above ``threshold``, transitively.

    Args:
        prints: ``(n, d)`` unit rows.
        threshold: Correlation from which two images count as the same view.

    Returns:
        For each image the smallest index of its group.
    """
    close = prints @ prints.T > threshold
    group = list(range(len(prints)))
    for i, j in zip(*np.nonzero(np.triu(close, 1)), strict=True):
        low, high = sorted((group[i], group[j]))
        if low != high:
            group = [low if g == high else g for g in group]
    return group


def assign_parts(
    pictures: list[Picture], groups: list[int], seed: int, heldout: float, validation: float
) -> None:
    """Set ``part`` of each picture: whole groups go to one part, the same share of each label."""
    members: dict[int, list[Picture]] = defaultdict(list)
    for picture, group in zip(pictures, groups, strict=True):
        members[group].append(picture)
    strata: dict[str, list[int]] = defaultdict(list)
    for group, inside in members.items():
        strata[_stratum(inside[0])].append(group)
    for stratum, ids in sorted(strata.items()):
        rng_for(seed, "parts", stratum).shuffle(ids)
        total = sum(len(members[group]) for group in ids)
        seen = 0
        for group in ids:
            share = (seen + len(members[group]) / 2) / total
            part = "heldout" if share < heldout else "validation"
            part = part if share < heldout + validation else "train"
            for picture in members[group]:
                picture.part = part
            seen += len(members[group])


def _stratum(picture: Picture) -> str:
    cells = min(picture.count("white blood cell"), 2) if picture.source == "blood_cells" else ""
    names = ("modality", "finding", "contrast")
    return "|".join([picture.source, *(str(picture.labels.get(n, "")) for n in names), str(cells)])
