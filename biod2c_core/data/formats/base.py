"""What every format offers, and the steps they share from a published row to a record."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from biod2c_core.data.formats.fields.notes import NOT_CARRIED, Notes
from biod2c_core.data.formats.fields.values import is_empty, split_in
from biod2c_core.data.records import FIELDS, UnfitJSONError, decode_line, iter_lines
from biod2c_core.errors import InputError, RecordError

Converter = Callable[[int, dict[str, Any]], dict[str, Any] | None]


class Row(NamedTuple):
    """One published row, turned into the fields of a record, or the reason why that failed."""

    file: Path
    line: int
    value: dict[str, Any] | ValueError


@dataclass(frozen=True)
class Rejection:
    """A row that is not a record: where it stands and why it was left out."""

    file: str
    line: int
    reason: str

    def to_error(self) -> RecordError:
        """The same as an error, for callers that accept no bad row."""
        return RecordError(self.file, self.line, self.reason)


@dataclass(frozen=True)
class ReadOptions:
    """Choices that only some formats have.

    Attributes:
        language: SLAKE's ``q_lang``, ``en`` or ``zh``; ``all`` takes every language.
        source: Name of the data set, for layouts that any data set can have; the folder's name by
            default.
        image_dir: Where formats that hold the images inside (hub parquet) write them.
        notes: Told, while the rows are read, what of them is not carried over.
    """

    language: str = "en"
    source: str = ""
    image_dir: Path | None = None
    notes: Notes = field(default_factory=Notes, compare=False)


@dataclass(frozen=True)
class Format:
    """One layout in which a data set is published.

    Attributes:
        name: What the user calls it.
        layout: The files it consists of, for help and error messages.
        detect: Whether a path looks like it. Reads little and never raises.
        read: Streams the rows of a path in the fields of a record, not yet checked.
        image_root: The folder that ``Record.image`` is relative to.
        holds_images: The images are inside the data files; reading writes them to
            ``ReadOptions.image_dir``, which is then the image root.
    """

    name: str
    layout: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], Iterator[Row]]
    image_root: Callable[[Path], Path]
    holds_images: bool = False


def convert_rows(
    file: Path,
    rows: Iterable[tuple[int, Any]],
    convert: Converter,
    taken: Collection[str] | None,
    notes: Notes,
) -> Iterator[Row]:
    """Turn the rows of one file into the fields of records.

    A published row may have fields of a record that its layout does not know (a ``split`` above all):
    they are carried over, and go before what the layout tells. All other fields that are not taken are
    counted in the notes.

    Args:
        file: Where they stand.
        rows: Line number and decoded value; a ``ValueError`` as value is a row that failed to decode.
        convert: Line and published row to the fields of a record, or None to leave it out (another
            language); raises ``ValueError`` with the reason why it is bad.
        taken: Fields that ``convert`` looks at; None where it looks at all of them.
        notes: Told of fields that are not carried over.
    """
    known = None if taken is None else frozenset(taken)
    for line, row in rows:
        try:
            if isinstance(row, ValueError):
                raise row
            if not isinstance(row, dict):
                raise ValueError(f"expected a JSON object, got {type(row).__name__}")
            fields = convert(line, row)
            if fields is not None:
                if known is not None and not row.keys() <= known:
                    add_own_fields(fields, row, known, notes)
                yield Row(file, line, fields)
        except ValueError as error:
            yield Row(file, line, error)


def add_own_fields(
    fields: dict[str, Any], row: dict[str, Any], taken: Collection[str], notes: Notes
) -> None:
    """Carry over the fields of a record that a layout does not know; count all others.

    Args:
        fields: Of the record, changed in place.
        row: The published row.
        taken: Fields that have been read.
        notes: Told of the others.
    """
    for name in row:
        key = name.strip().lower()
        if name in taken or key in taken or is_empty(row[name]):
            continue
        if key not in FIELDS:
            notes.add(NOT_CARRIED, name or "(no name)")
        elif key == "tags" and isinstance(row[name], dict):
            fields["tags"] = {**fields.get("tags", {}), **row[name]}
        else:
            fields[key] = row[name]


def jsonl_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Decode JSONL and go on after a bad line, whose value is then the ``ValueError``.

    Raises:
        InputError: The file cannot be opened.
    """
    for number, line in iter_lines(path):
        try:
            yield number, decode_line(line)
        except ValueError as error:
            yield number, error


def first_names(rows: Iterator[tuple[int, Any]], count: int = 20) -> set[str]:
    """The names of all fields in the first rows; for detection, so it never raises."""
    names: set[str] = set()
    try:
        for _, value in itertools.islice(rows, count):
            row = value.value if isinstance(value, UnfitJSONError) else value
            if isinstance(row, dict):
                names.update(name for name in row if isinstance(name, str))
    except (InputError, OSError, ValueError):
        pass
    return names


def folder_of(path: Path) -> Path:
    """The folder itself, or the folder of a file."""
    return path if path.is_dir() else path.parent


def source_name(path: Path, options: ReadOptions) -> str:
    """The name of the data set: as asked for, or its folder's."""
    folder = folder_of(path.absolute())
    return options.source or (folder.parent if folder.name == "data" else folder).name


def split_of(file: Path) -> str:
    """The split that a file name speaks of; see :func:`~.fields.values.split_in`."""
    return split_in(file.stem)


def image_prefix(folder: Path, *names: str) -> str:
    """The first of these sub-folders that exists, with a slash, or nothing."""
    return next((f"{name}/" for name in names if (folder / name).is_dir()), "")


def in_folder(prefix: str, name: str) -> str:
    """An image's name with the folder before it, unless it is there already or absolute."""
    return name if name.startswith((prefix, "/")) else prefix + name
