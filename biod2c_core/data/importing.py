"""Bring a published data set into canonical records, row by row, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import ReadOptions, Rejection, find_format, stream_records
from biod2c_core.data.records import Record
from biod2c_core.data.relocate import ImagePaths
from biod2c_core.errors import InputError


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        format: Name of the format, as given or detected.
        accepted: Records written.
        rejected: Rows left out.
        rejected_file: Where their places and reasons stand; None if there are none.
        link: The link beside the output through which it reaches its images; None where they lie
            below its folder.
        notes: What of the rows was not carried over, and what was guessed: a line each, with counts.
    """

    format: str
    accepted: int
    rejected: int
    rejected_file: Path | None
    link: Path | None
    notes: list[str]


def import_records(
    source: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    options: ReadOptions | None = None,
    strict: bool = False,
    allow_outside: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> ImportReport:
    """Read a data set and write it as canonical JSONL, atomically.

    Image paths become relative to the folder of ``out``; see :class:`ImagePaths`.

    Args:
        source: File or folder of a known format.
        out: The JSONL file to write. Rejected rows go to ``<out without .jsonl>.rejected.jsonl``,
            images that were inside data files to ``<out without .jsonl>_images/``.
        format: Name of the format; detected by default.
        options: Choices that only some formats have; ``image_dir`` is set here.
        strict: Stop at the first bad row.
        allow_outside: Keep image paths that leave the image root.
        advance: Called once a row.

    Raises:
        InputError: Nothing to read, a file broken as a whole, or not one good row.
        RecordError: A bad row, with ``strict``.
    """
    source, out = Path(source), Path(out)
    found = find_format(source, format)
    options = options or ReadOptions()
    root = found.image_root(source)
    if found.holds_images:
        root = out.with_name(f"{out.stem}_images")
        if root.is_symlink():
            raise InputError(f"{root} is a link, so no image is written", "Remove it first.")
        options = replace(options, image_dir=root)
    paths = ImagePaths(out, [root], allow_outside)
    rejected_file = out.with_suffix(".rejected.jsonl")
    items = stream_records(source, found.name, options, lambda record: paths.relocate(record, root))
    remedy = f"{found.name} is: {found.layout}."
    accepted, rejected = _write(items, out, rejected_file, strict, advance, remedy)
    paths.write_link()
    if not rejected:
        rejected_file.unlink(missing_ok=True)  # a second run at once may have
    return ImportReport(
        found.name,
        accepted,
        rejected,
        rejected_file if rejected else None,
        paths.link,
        options.notes.lines(),
    )


def _write(
    items: Iterable[Record | Rejection],
    out: Path,
    rejected_file: Path,
    strict: bool,
    advance: Callable[[], object],
    remedy: str,
) -> tuple[int, int]:
    """Write both files, or neither, the second only if a row is rejected; returns how many rows each has."""
    accepted = rejected = 0
    with atomic_open(out) as file, ExitStack() as opened:
        first: Rejection | None = None
        for item in items:
            advance()
            if isinstance(item, Record):
                file.write(item.to_json() + "\n")
                accepted += 1
                continue
            if strict:
                raise item.to_error()
            if first is None:
                first, rejects = item, opened.enter_context(atomic_open(rejected_file))
            rejects.write(json.dumps(vars(item)) + "\n")
            rejected += 1
        if not accepted:
            reason = str(first.to_error()) if first else "no row was found"
            raise InputError(f"no usable row for {out} ({reason})", remedy)
    return accepted, rejected
