"""Every labelled picture in one form: its facts, its objects, and the side of the split it lies on."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

FOLDERS = yaml.safe_load(Path(__file__).with_name("folders.yaml").read_text("utf-8"))
LEFT_OUT = 0.15  # of a folder without a second source: as development, and again as final
MODALITIES = {  # as the labels write it -> as the model says it
    "X-ray angiography": "angiography",
    "fundus photograph": "fundus photography",
    "ECG picture": "ECG",
    "brightfield microscopy": "light microscopy",
    "colonoscopy": "endoscopy",
}
NOT_MEDICAL = "not a medical image"
ORGANS = {
    "head": "brain",
    "lower abdomen": "abdomen",
    "lumbar spine": "spine",
    "human cells": "cells",
    "fruit fly cells": "cells",
    "cell nuclei": "cells",
    "cell monolayer": "cells",
}
KNOWN_ORGANS = frozenset([
    "brain", "chest", "abdomen", "pelvis", "heart", "breast", "skin", "retina", "blood", "colon",
    "liver", "neck", "spine", "knee", "kidney", "bone", "cells", "shoulder", "thigh", "esophagus",
    "fetal head", "lymph node", "oral cavity", "gastrointestinal tract",
])  # fmt: skip
SLICED = ("CT", "MRI")
BOXED = ("blood_cells", "endoscopy", "nuclei")  # in which every object of a kind is boxed
# On these kinds no arrow is drawn in training: what the model says of arrows there is measured.
NO_ARROWS = ("ultrasound", "fundus photography", "dermoscopy")
BOX_NAMES = {
    "WBC": "white blood cell",
    "RBC": "red blood cell",
    "Platelets": "platelet",
    "polyp": "polyp",
    "nucleus": "nucleus",
}
PixelBox = tuple[float, float, float, float]  # left, top, right, bottom in pixels


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
    """A picture and what is known of it.

    Attributes:
        source: The folder it comes from.
        image: Path below the data folder.
        size: Width and height in pixels.
        labels: The row of ``labels.jsonl``.
        things: Its boxed objects.
        part: train, development or final.
        base: Of a copy or a crop: the published image.
    """

    source: str
    image: str
    size: tuple[int, int]
    labels: dict[str, Any]
    things: list[Thing] = field(default_factory=list)
    part: str = "train"
    base: str = ""

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

    @cached_property
    def facts(self) -> dict[str, str]:
        """What can be asked about the whole picture: task -> answer."""
        return facts_of(self.source, self.labels)


def rng_for(seed: int, *names: object) -> random.Random:
    """A generator that depends on the names alone, so that a subset gives the same draws."""
    return random.Random(zlib.crc32(repr((seed, *names)).encode()))


def facts_of(source: str, labels: dict[str, Any]) -> dict[str, str]:
    """What can be asked about a picture, task by task.

    Only what its label states of the picture itself: a class of the patient, or a set in which all have
    it, is not asked about.
    """
    if labels.get("medical") is False:
        return {"modality": NOT_MEDICAL, "medical": "no"}
    facts = {"medical": "yes"}
    modality = MODALITIES.get(labels.get("modality", ""), labels.get("modality", ""))
    if (
        modality
        and "photograph of" not in modality
        and modality not in ("microscopy", "macroscopic photograph")
    ):
        facts["modality"] = modality
    organ = ORGANS.get(labels.get("organ", ""), labels.get("organ", ""))
    if organ in KNOWN_ORGANS:
        facts["organ"] = organ
    if modality in SLICED and labels.get("plane"):
        facts["plane"] = labels["plane"]
    if labels.get("view") in ("AP", "PA", "CC", "MLO"):
        facts["view"] = labels["view"]
    if "contrast" in labels:
        facts["contrast"] = _yes(labels["contrast"])
    if labels.get("stain"):
        facts["stain"] = labels["stain"]
    return facts | _findings(source, labels)


def _findings(source: str, labels: dict[str, Any]) -> dict[str, str]:
    """The facts of the sources in which some pictures have a finding and others have not."""
    if source == "brain_mri_nickparvar" or source == "brain_mri_brisc2025":
        return {"tumour": _yes(labels["tumour"])}
    if source == "mr_volumes" and facts_known(labels):
        return {"tumour": _yes(bool(labels.get("tumour")))}
    if source in ("cxr_nih14", "cxr_kermany_children"):
        return {"chest_abnormal": _yes(labels["abnormal"])}
    if source == "us_breast_busi":
        return {"breast_abnormal": _yes(labels["abnormal"])}
    if source == "us_breast_lesions_usg":
        return {"breast_abnormal": "yes"}
    if source == "skin_dermoscopy":
        return {
            "lesion": labels["class"].replace("naevus", "nevus"),
            "malignant": _yes(labels["malignant"]),
        }
    if source in ("cytology_blood_cells", "cytology_aml"):
        return {"cell": labels["cell"]}
    if source == "histology_colon_crcval":
        return {"tissue": labels["tissue"]}
    if source in ("oct", "endoscopy") and "finding" in labels:  # a crop may lack it
        return {"finding": labels["finding"]}
    return {}


def facts_known(labels: dict[str, Any]) -> bool:
    """Whether a slice of these head volumes is known to hold a tumour or none."""
    whole = labels["volume"] in ("papaya_T1", "seg3d_MR", "datalad_T1", "papaya_PD")
    return whole or bool(labels.get("tumour"))


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def part_of(source: str, labels: dict[str, Any]) -> str:
    """On which side of the split a picture lies, by ``folders.yaml``."""
    rule = FOLDERS[source]
    if "part" in rule:
        return str(rule["part"])
    value = labels.get(rule["by"], labels["image"])
    if "parts" in rule:
        return str(rule["parts"][value])
    draw = rng_for(0, "part", source, str(value)).random()
    return "development" if draw < LEFT_OUT else "final" if draw < 2 * LEFT_OUT else "train"


def read_folder(root: Path, source: str) -> list[Picture]:
    """The pictures of one folder with a ``labels.jsonl``."""
    pictures = []
    for line in (root / source / "labels.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        with Image.open(root / source / row["image"]) as image:
            size = image.size
        boxes = [(item["label"], item["box"]) for item in row.get("boxes", [])]
        things = [Thing(BOX_NAMES.get(name, name), tuple(box)) for name, box in boxes]
        # A few boxes are empty or a pixel wide: there is nothing to see in them.
        things = [t for t in things if min(t.box[2] - t.box[0], t.box[3] - t.box[1]) >= 3]
        part = part_of(source, row)
        pictures.append(Picture(source, f"{source}/{row['image']}", size, row, things, part))
    return pictures


def read_pictures(root: Path) -> list[Picture]:
    """All labelled pictures of ``folders.yaml``."""
    return [picture for source in FOLDERS for picture in read_folder(root, source)]
