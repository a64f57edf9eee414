"""Whether test images were in training, by name and by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from biod2c_core.data.images import check_image_file, load_image
from biod2c_core.data.images.pictures import PILLOW_FORMATS
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError
from biod2c_core.foreign import real_path


@dataclass(frozen=True)
class Contamination:
    """Overlap of a test split with training records.

    Attributes:
        images: Test images.
        seen_images: Those that training has too.
        seen_by_content: Those of them found by equal pixels under another name.
        questions: Test questions.
        seen_questions: Those about seen images.
        repeated_questions: Those whose image and question text are both in training.
        unread_images: Test images that could not be read and were compared by name alone.
        clean_ids: Ids of the questions about unseen images.
    """

    images: int
    seen_images: int
    seen_by_content: int
    questions: int
    seen_questions: int
    repeated_questions: int
    unread_images: int
    clean_ids: frozenset[str]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-ready values."""
        return {key: value for key, value in asdict(self).items() if key != "clean_ids"}


def pixel_hash(path: Path) -> str | None:
    """SHA-256 of size and decoded RGB pixels; None for what cannot be read."""
    try:
        image = load_image(path)
    except ImageError:
        return None
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _size(path: Path) -> tuple[int, ...]:
    """The header's size, however the picture is turned; empty for what is not an image."""
    try:
        with Image.open(check_image_file(path), formats=PILLOW_FORMATS) as image:
            return tuple(sorted(image.size))
    except (ImageError, OSError, ValueError, Image.DecompressionBombError):
        return ()


def _hashes_of_sizes(paths: Iterable[Path], sizes: set[tuple[int, ...]]) -> set[str]:
    """Pixel hashes of the images that have one of these sizes; the others need no decoding."""
    found = (pixel_hash(path) for path in paths if _size(path) in sizes)
    return {value for value in found if value is not None}


def check_contamination(
    training: Sequence[Record],
    records: Sequence[Record],
    training_root: Path,
    root: Path,
) -> Contamination:
    """Look for the test images among the training images.

    Files are compared by path and by decoded pixels, so a copy under another name, or saved again
    without loss, is found. A rescaled or recompressed copy is not.

    Args:
        training: What a model was trained on.
        records: The test split.
        training_root: Folder that the training image paths are relative to.
        root: Folder that the test image paths are relative to.
    """
    known_paths = {_real(training_root, record) for record in training}
    tested = {record.image: _real(root, record) for record in records}
    by_name = {image for image, path in tested.items() if path in known_paths}
    rest = {image: path for image, path in tested.items() if image not in by_name}
    hashes = {image: pixel_hash(path) for image, path in rest.items()}
    known = _hashes_of_sizes(sorted(known_paths), {_size(path) for path in rest.values()} - {()})
    by_content = {image for image, value in hashes.items() if value in known}
    seen = by_name | by_content
    asked = {(_real(training_root, record), _plain_question(record)) for record in training}
    return Contamination(
        images=len(tested),
        seen_images=len(seen),
        seen_by_content=len(by_content),
        questions=len(records),
        seen_questions=sum(record.image in seen for record in records),
        repeated_questions=sum(
            (tested[record.image], _plain_question(record)) in asked for record in records
        ),
        unread_images=sum(value is None for value in hashes.values()),
        clean_ids=frozenset(record.id for record in records if record.image not in seen),
    )


def _real(root: Path, record: Record) -> Path:
    """Where its picture really lies."""
    return real_path(root / record.image)


def _plain_question(record: Record) -> str:
    return " ".join(record.question.lower().split())
