"""Labels that people gave: a CSV with ``image`` and ``label``, and if known ``source`` and ``split``."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.atomic import FILE_NAMES, atomic_open
from biod2c_core.data.formats.rows.csv_rows import iter_csv
from biod2c_core.data.images import resolve_image
from biod2c_core.errors import ImageError, InputError, RecordError
from biod2c_core.foreign import escape_formula, unescape_formula

CLEAN = "clean"
POLLUTED = "polluted"
UNSURE = "unsure"
LABELS = (CLEAN, POLLUTED, UNSURE)
FIELDS = ("image", "label")
TEST = "test"


@dataclass(frozen=True)
class Labelled:
    """One labelled image.

    Attributes:
        name: As written.
        path: The file.
        label: ``clean`` or ``polluted``; ``unsure`` ones are not trained on.
        sources: Where the picture comes from; several, joined by ``+`` in the file, for a figure
            made from several.
        split: ``test`` for what is never trained on.
    """

    name: str
    path: Path
    label: str
    sources: frozenset[str]
    split: str = ""


def read_labels(path: Path, image_root: Path | None = None) -> list[Labelled]:
    """Read and check a label file.

    Args:
        path: The CSV.
        image_root: Folder that the images are relative to, by default the CSV's own; with it, images
            must not leave it.

    Raises:
        InputError: The file cannot be read, or it lacks examples of a label.
        RecordError: A row is malformed, or an image occurs twice.
    """
    root = image_root or path.parent
    rows: dict[str, Labelled] = {}
    for number, row in iter_csv(path):
        if isinstance(row, ValueError):
            raise RecordError(path, number, str(row))
        name, label = (unescape_formula(str(row.get(key) or "").strip()) for key in FIELDS)
        if not name or label not in LABELS:
            raise RecordError(
                path,
                number,
                f"image {name!r} has label {label!r}",
                f"Give both columns, image and label; the label is one of: {', '.join(LABELS)}.",
            )
        if name in rows:
            raise RecordError(path, number, f"image {name!r} is labelled twice", "Keep one row.")
        try:
            place = resolve_image(root, name, allow_outside=image_root is None)
        except ImageError as error:
            raise RecordError(path, number, error.problem, error.remedy) from error
        sources = frozenset(filter(None, str(row.get("source") or "").strip().split("+")))
        rows[name] = Labelled(name, place, label, sources, str(row.get("split") or "").strip())
    for label in (CLEAN, POLLUTED):
        count = sum(row.label == label and row.split != TEST for row in rows.values())
        if count < 10:
            raise InputError(
                f"{path} has {count} images labelled {label!r} to train on, expected at least 10",
                "Label more of them, for example with 'biod2c filter-images label'.",
            )
    return list(rows.values())


def read_label_names(path: Path) -> dict[str, str]:
    """Label by image name, for a label file that is still growing.

    Raises:
        InputError: It exists and cannot be read.
        RecordError: A row is malformed.
    """
    found: dict[str, str] = {}
    if path.exists():
        for number, row in iter_csv(path):
            if (
                isinstance(row, ValueError)
                or row.get("label") not in LABELS
                or not row.get("image")
            ):
                remedy = f"Expected an image and one of: {', '.join(LABELS)}."
                raise RecordError(path, number, "not a row of labels", remedy)
            found[unescape_formula(row["image"])] = row["label"]
    return found


def write_label_names(path: Path, labels: Iterable[tuple[str, str]]) -> None:
    """Write image names and labels, atomically."""
    with atomic_open(path, errors=FILE_NAMES) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows((escape_formula(name), label) for name, label in labels)
