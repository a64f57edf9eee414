"""Copies of a data set, or of its pictures, with the text in their pixels blacked out."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from biod2c_core.atomic import atomic_folder, atomic_open
from biod2c_core.data.burnt_text import (
    MIN_CONFIDENCE,
    FoundText,
    ReadsText,
    TextReport,
    find_text,
    mask_text,
)
from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.images import load_image, resolve_image
from biod2c_core.data.images.recognize import (
    PEEK_BYTES,
    PICTURE,
    PILLOW_FORMATS,
    recognize,
)
from biod2c_core.data.records import write_records
from biod2c_core.errors import InputError
from biod2c_core.foreign import real_path

JOURNAL_SUFFIX = ".text.jsonl"
PNG = ".png"
# What RGB can be written in under its own name; whatever else there is becomes a PNG.
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
_TIFF: dict[str, Any] = {"format": "TIFF", "compression": "tiff_lzw"}
_ENCODERS: dict[str, dict[str, Any]] = {
    PNG: {"format": "PNG"},
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": {"format": "BMP"},
    ".ppm": {"format": "PPM"},
    ".webp": {"format": "WEBP", "lossless": True},
}


@dataclass
class ScrubReport:
    """What became of a data set.

    Attributes:
        found: The text, by image.
        records: Records written.
        renamed: Image name to the name of its PNG, for what cannot keep its format.
        left_out: Records whose picture cannot be read.
    """

    found: TextReport
    records: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """The whole report, with what was read."""
        return {
            "records": self.records,
            "images": self.found.images,
            "images_with_text": len(self.found.texts),
            "records_left_out": self.left_out,
            "unreadable": self.found.unreadable,
            "written_as_png": self.renamed,
            "text": self.found.to_json(),
        }


Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def _silent(_total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _: None)


def journal_of(path: Path) -> Path:
    """Where what was found stands: beside the copies, so that they can be given away without it."""
    return path.with_name(f"{path.name}{JOURNAL_SUFFIX}")


def scrub_text(
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    min_confidence: float = MIN_CONFIDENCE,
    workers: int = 1,
    make_reader: Callable[[], ReadsText] | None = None,
    progress: Progress = _silent,
) -> ScrubReport:
    """Copy a data set into a new folder, text in its pictures blacked out.

    Killed at any moment and started again, no picture is read twice; ``out`` is there when all of it
    is. What was read stands in :func:`journal_of` ``(out)``.

    Args:
        data: Records in any known format.
        out: The new folder: the records as ``NAME.jsonl``, and the pictures under their names.
        images: The image root; by default the data's own.
        min_confidence: What is less sure is not masked.
        workers: Processes that look for text.
        make_reader: As in :func:`find_text`.
        progress: Given the number of steps, two for a picture, a context whose value is called with
            each number of steps done.

    Raises:
        InputError: ``data`` cannot be read, ``out`` exists, or two pictures would get one name.
    """
    root = images or image_root(data)
    with atomic_folder(out) as folder:
        records = read_records(data)
        names = sorted({record.image for record in records})
        with progress(2 * len(names)) as advance:
            found = find_text(
                names,
                root,
                journal_of(out),
                min_confidence=min_confidence,
                workers=workers,
                make_reader=make_reader,
                advance=advance,
            )
            report = ScrubReport(found)
            new_names = _copy_pictures(names, root, folder, report, advance)
        kept = [
            record.changed(image=new_names[record.image])
            for record in records
            if record.image in new_names
        ]
        if not kept:
            raise InputError(
                f"no picture of {data} can be read, the first because of "
                f"{next(iter(found.unreadable.values()))}",
                "Name the image root with --image-root.",
            )
        report.left_out = len(records) - len(kept)
        stem = data.stem if data.is_file() else real_path(data).name
        report.records = write_records(folder / f"{stem}.jsonl", kept)
    return report


def _copy_pictures(
    names: Sequence[str],
    root: Path,
    folder: Path,
    report: ScrubReport,
    advance: Callable[[int], object],
) -> dict[str, str]:
    """Write the pictures; their new names, relative to ``folder``."""
    new_names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        advance(1)
        if name in report.found.unreadable:
            continue
        source = resolve_image(root, name)
        plain = Path(os.path.relpath(source, os.path.abspath(root))).as_posix()  # noqa: PTH100
        texts = report.found.texts.get(name, [])
        unchanged = not texts and _is_plain_picture(source)
        keeps_name = unchanged or (source.suffix.lower() in _ENCODERS and _is_picture(source))
        new = plain if keeps_name else plain + PNG
        if taken.setdefault(new, plain) != plain:
            raise InputError(
                f"{plain!r} and {taken[new]!r} would both be written as {new!r}", "Rename one."
            )
        new_names[name] = new
        if not keeps_name:
            report.renamed[name] = new
        if unchanged:
            with atomic_open(folder / new, "wb") as file, source.open("rb") as original:
                shutil.copyfileobj(original, file)
        else:
            write_masked(source, folder / new, texts)
    return new_names


def write_masked(source: Path, target: Path, texts: Sequence[FoundText]) -> None:
    """Write the picture that models see of a file, masked, in the format that ``target`` says.

    Args:
        source: Any image file.
        target: Written atomically: 8 bits a colour, upright, without metadata. PNG where its suffix
            is not one of ours.
        texts: What to black out.

    Raises:
        ImageError: ``source`` cannot be decoded.
    """
    masked = mask_text(load_image(source), texts)
    buffer = io.BytesIO()
    masked.save(buffer, **_ENCODERS.get(target.suffix.lower(), _ENCODERS[PNG]))
    with atomic_open(target, "wb") as file:
        file.write(buffer.getvalue())


def _is_picture(path: Path) -> bool:
    """Whether a file is an ordinary picture: no volume, and no DICOM header with names in it."""
    with path.open("rb") as file:
        return recognize(file.read(PEEK_BYTES), str(path)) == PICTURE


def _is_plain_picture(path: Path) -> bool:
    """Whether it is one without further frames, which nobody has looked at."""
    if not _is_picture(path):
        return False
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as picture:
            return getattr(picture, "n_frames", 1) == 1
    except Exception:  # of many kinds: it is masked and written anew, as what was looked at
        return False
