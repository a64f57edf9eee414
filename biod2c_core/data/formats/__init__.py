"""Every layout in which people have their data, each in its own file, behind one way to read them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from biod2c_core.data.formats import (
    hub_parquet,
    image_folder,
    image_text_jsonl,
    jsonl,
    llava_med,
    path_vqa,
    plain_csv,
    pmc_vqa,
    slake,
    vqa_rad,
)
from biod2c_core.data.formats.base import (
    Format,
    ReadOptions,
    Rejection,
    first_names,
    jsonl_rows,
)
from biod2c_core.data.formats.benchmarks import BENCHMARKS
from biod2c_core.data.formats.fields.columns import missing_columns
from biod2c_core.data.formats.rows import csv_rows
from biod2c_core.data.formats.rows.json_array import iter_json_array
from biod2c_core.data.records import Record, parse_record
from biod2c_core.errors import InputError, did_you_mean

__all__ = [
    "FORMATS",
    "Format",
    "ReadOptions",
    "Rejection",
    "find_format",
    "image_root",
    "iter_good_records",
    "read_records",
    "register_format",
    "stream_records",
]

# Detection asks in this order, the narrower layout first.
_ORDER = (
    *BENCHMARKS,
    jsonl.FORMAT,
    vqa_rad.FORMAT,
    slake.FORMAT,
    path_vqa.FORMAT,
    pmc_vqa.FORMAT,
    llava_med.FORMAT,
    image_text_jsonl.BIOVGQ,
    image_text_jsonl.PMC_OA,
    hub_parquet.FORMAT,
    plain_csv.FORMAT,
    image_folder.FORMAT,
)
FORMATS: dict[str, Format] = {known.name: known for known in _ORDER}


def register_format(known: Format) -> None:
    """Let a layout be read wherever data is; it is asked before those of this package.

    Raises:
        InputError: The name is taken.
    """
    if known.name in FORMATS:
        raise InputError(f"a format is called {known.name!r} already", "Choose another name.")
    others = dict(FORMATS)
    FORMATS.clear()
    FORMATS.update({known.name: known, **others})


def find_format(path: str | Path, name: str | None = None) -> Format:
    """The format of a file or folder, as named or as detected.

    Raises:
        InputError: The path is missing, the name unknown, or the layout not recognized.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no data at {path}", "Give a JSONL file or the folder of a data set.")
    if name is None:
        found = next((known for known in FORMATS.values() if known.detect(path)), None)
    else:
        found = FORMATS.get(name)
    if found is None:
        given = (
            f"{str(path)!r} looks like no known format"
            if name is None
            else f"unknown format {name!r}"
        )
        if name is None and path.is_dir() and (files := _record_files(path)):
            raise InputError(
                f"{str(path)!r} is not the folder of a known data set; it holds {', '.join(files)}",
                f"Name one of them, such as {path / files[0]}.",
            )
        seen = _fields_seen(path) if name is None else ""
        hint = did_you_mean((name or "").lower(), FORMATS)
        raise InputError(given + seen, f"Name one of: {', '.join(FORMATS)}. {hint}".rstrip())
    return found


def _record_files(folder: Path) -> list[str]:
    """Files in a folder that are data of a known format, the first few by name."""
    suffixes = (".jsonl", ".json", *csv_rows.SUFFIXES)
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() in suffixes)
    readable = (
        each for each in files[:50] if any(known.detect(each) for known in FORMATS.values())
    )
    return [each.name for each in itertools.islice(readable, 5)]


def _fields_seen(path: Path) -> str:
    """What a table of no known format has, and what it lacks to be one."""
    if path.suffix.lower() in csv_rows.SUFFIXES:
        rows = csv_rows.iter_csv(path)
    elif path.suffix.lower() == ".json":
        rows = iter_json_array(path)
    elif path.suffix.lower() == ".jsonl":
        rows = jsonl_rows(path)
    else:
        return ""
    names = first_names(rows)
    if not names:
        return ": no row with named fields was found in it"
    shown = ", ".join(sorted(names)[:20])
    lacking = missing_columns(
        {name.strip().lower() for name in names} & {"image", "question", "caption"}
    )
    return f": it has {shown}" + (f"; missing: {lacking}" if lacking else "")


def image_root(path: str | Path, format: str | None = None) -> Path:
    """The folder that ``Record.image`` is relative to, for what :func:`read_records` read."""
    return find_format(path, format).image_root(Path(path))


def stream_records(
    path: str | Path,
    format: str | None = None,
    options: ReadOptions | None = None,
    adapt: Callable[[Record], Record] = lambda record: record,
) -> Iterator[Record | Rejection]:
    """Read a data set row by row, in bounded memory but for the ids.

    Args:
        path: A file or folder of a known format.
        format: Its name; detected by default.
        options: Choices that only some formats have.
        adapt: Applied to every good record; a ``ValueError`` from it makes the row a bad one.

    Yields:
        A record for each good row, a rejection for each bad one; an id that occurs again is bad.

    Raises:
        InputError: Nothing there, no known format, or a file broken as a whole.
    """
    source = Path(path)
    seen: set[str] = set()
    for file, line, value in find_format(source, format).read(source, options or ReadOptions()):
        try:
            if isinstance(value, ValueError):
                raise value
            record = adapt(parse_record(value))
            if record.id in seen:
                raise ValueError(f"id {record.id!r} occurs twice")
        except ValueError as error:
            reason = error.problem if isinstance(error, InputError) else str(error)
            yield Rejection(str(file), line, reason)
        else:
            seen.add(record.id)
            yield record


def iter_good_records(
    path: str | Path, format: str | None = None, options: ReadOptions | None = None
) -> Iterator[Record]:
    """Read a data set row by row, accepting no bad row.

    Raises:
        InputError: As :func:`stream_records`.
        RecordError: A row is malformed; ``file:line`` is named.
    """
    for item in stream_records(path, format, options):
        if isinstance(item, Rejection):
            raise item.to_error()
        yield item


def read_records(
    path: str | Path,
    format: str | None = None,
    split: str | None = None,
    options: ReadOptions | None = None,
) -> list[Record]:
    """Read a data set whole, accepting no bad row.

    Args:
        path: A file or folder of a known format.
        format: Its name; detected by default.
        split: Keep only this split.
        options: Choices that only some formats have.

    Raises:
        InputError: As :func:`stream_records`; or there is no record (of that split).
        RecordError: A row is malformed; ``file:line`` is named.
    """
    records = list(iter_good_records(path, format, options))
    kept = [record for record in records if split in (None, record.split)]
    if not kept:
        splits = sorted({record.split for record in records if record.split})
        wanted = f"no record of split {split!r}" if records else "no record"
        there = f"Splits there: {', '.join(splits) or 'none'}."
        raise InputError(
            f"{wanted} in {path}", f"{there} {did_you_mean(split or '', splits)}".rstrip()
        )
    return kept
