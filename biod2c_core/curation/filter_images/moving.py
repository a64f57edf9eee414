"""Moving polluted images away and back: nothing is overwritten, and every move is recorded first.

The folder that images are moved to holds ``moves.jsonl``: a line for each move with ``from`` (absolute),
``to`` (relative to the folder), ``bytes`` and ``mtime_ns``. A line is on the disk before its move
begins, so that a move cut off by a kill is finished by the next run or taken back by :func:`undo_moves`.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from biod2c_core.append_log import AppendLog
from biod2c_core.atomic import atomic_open, make_folder
from biod2c_core.curation.filter_images.filter import names_with_label
from biod2c_core.curation.filter_images.labels import POLLUTED
from biod2c_core.curation.filter_images.sources import WHOLE_FILE, Item
from biod2c_core.data.images import resolve_image
from biod2c_core.errors import InputError
from biod2c_core.foreign import real_path

MOVES = "moves.jsonl"
_FIELDS = {"from", "to", "bytes", "mtime_ns"}


@dataclass(frozen=True)
class Move:
    """One line of the journal.

    Attributes:
        source: Absolute path before the move.
        target: Path after it, relative to the folder.
        size: Bytes of the file.
        mtime_ns: When it was last changed; a move keeps that.
    """

    source: str
    target: str
    size: int
    mtime_ns: int

    def to_row(self) -> dict[str, Any]:
        """As a row of the journal."""
        return {
            "from": self.source,
            "to": self.target,
            "bytes": self.size,
            "mtime_ns": self.mtime_ns,
        }

    def is_at(self, path: Path) -> bool:
        """Whether the file of this move lies at ``path``."""
        try:
            status = path.lstat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class MoveReport:
    """What a call of :func:`move_polluted` did.

    Attributes:
        moved: How many files.
        renamed: Those that got another name because theirs was taken, by their old name.
    """

    moved: int
    renamed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UndoReport:
    """What :func:`undo_moves` did.

    Attributes:
        restored: Files that are back.
        kept: Why a file stays where it is, by its path in the folder.
    """

    restored: int
    kept: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def move_polluted(items: Iterable[Item], output: Path, root: Path, target: Path) -> MoveReport:
    """Move the files of polluted images to another folder, below it as they were below ``root``.

    A file whose name is taken there gets a new one (``scan~2.png``). Safe to be killed in: a second
    call moves what is left.

    Raises:
        InputError: The folder lies inside ``root`` or is in use, or images lie in tar shards.
        ImageError: An image lies outside ``root``.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 (without "..", but links stay)
    inner, outer = real_path(target), real_path(root)
    if inner == outer or outer in inner.parents:
        raise InputError(
            f"{target} lies inside {root}", "Move polluted images to a folder beside it."
        )
    labels = names_with_label(output)
    polluted = [item for item in items if labels.get(item.name) == POLLUTED]
    if any(item.length != WHOLE_FILE for item in polluted):
        raise InputError("images inside tar shards cannot be moved", "Use --list.")
    places = [resolve_image(target, os.path.relpath(item.path, root)) for item in polluted]
    make_folder(target)
    count, renamed = 0, {}
    with _journal(target) as (journal, moves):
        begun = {move.source: move for move in moves}
        for item, place in zip(polluted, places, strict=True):
            source = Path(item.path).absolute()
            if not os.path.lexists(source):
                continue  # moved by an earlier call
            before = begun.get(str(source))
            if before is not None and _cut_off(before, source, target / before.target):
                source.unlink()
                count += 1
                continue
            final = _move(source, place, target, journal)
            if final != place:
                renamed[item.name] = final.relative_to(target.absolute()).as_posix()
            count += 1
    return MoveReport(count, renamed)


def undo_moves(folder: Path) -> UndoReport:
    """Move everything back that :func:`move_polluted` has moved to ``folder``, the last first.

    What is back leaves the journal; the journal goes when it is empty. A file is kept where it is if
    another one has taken its old place, and is tried again by the next call.

    Raises:
        InputError: Nothing was moved to this folder, or it is in use.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 (likewise)
    if not (folder / MOVES).is_file():
        raise InputError(
            f"{folder} holds no {MOVES}, so nothing was moved to it",
            "Give the FOLDER of 'biod2c filter-images run --move FOLDER'.",
        )
    restored, kept, left = 0, dict[str, str](), list[Move]()
    with _journal(folder) as (_, moves):
        for move in reversed(moves):
            reason = _take_back(move, folder)
            if reason:
                kept[move.target] = reason
                left.append(move)
            restored += reason == ""
        if left:
            with atomic_open(folder / MOVES) as file:
                file.writelines(json.dumps(move.to_row()) + "\n" for move in reversed(left))
        else:
            (folder / MOVES).unlink()
    return UndoReport(restored, kept)


def _take_back(move: Move, folder: Path) -> str | None:
    """Undo one move: an empty text where the file is back, why not, or None where nothing was to do."""
    place, source = resolve_image(folder, move.target), Path(move.source)
    there = os.path.lexists(source)
    if not move.is_at(place):  # never moved, back already, or changed
        changed = os.path.lexists(place) and not there
        return "it has changed since it was moved" if changed else None
    if there and _cut_off(move, source, place):
        place.unlink()
    elif there:
        return f"another file is at {source} now"
    else:
        source.parent.mkdir(parents=True, exist_ok=True)
        if not _rename(place, source):
            return f"another file is at {source} now"
    _remove_empty(place.parent, folder)
    return ""


def _move(source: Path, place: Path, folder: Path, journal: AppendLog) -> Path:
    """Move one file to ``place``, or to the next free name; the journal knows first."""
    status = source.lstat()
    for candidate in _names(place):
        if os.path.lexists(candidate):
            continue
        name = candidate.relative_to(folder.absolute()).as_posix()
        move = Move(str(source), name, status.st_size, status.st_mtime_ns)
        journal.append([move.to_row()])
        candidate.parent.mkdir(parents=True, exist_ok=True)
        if _rename(source, candidate):
            return candidate
    raise AssertionError("names never end")


def _names(place: Path) -> Iterator[Path]:
    yield place
    number = 2
    while True:
        yield place.with_name(f"{place.stem}~{number}{place.suffix}")
        number += 1


def _rename(source: Path, target: Path) -> bool:
    """Move a file; False, and nothing has happened, where the target exists."""
    try:
        os.link(source, target, follow_symlinks=False)  # unlike rename, it never replaces
    except FileExistsError:
        return False
    except OSError:  # another file system, or one without hard links
        return _copy_over(source, target)
    source.unlink()
    return True


def _copy_over(source: Path, target: Path) -> bool:
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copy2(source, partial, follow_symlinks=False)
        try:
            os.link(partial, target, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError:  # no hard links: the name is taken first, then filled
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return False
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    source.unlink()
    return True


def _cut_off(move: Move, source: Path, target: Path) -> bool:
    """Whether a kill came between the file's arrival and the removal of its source: both are there."""
    if not (move.is_at(target) and move.is_at(source)):
        return False
    if target.is_symlink() or source.is_symlink():
        return (
            target.is_symlink() and source.is_symlink() and target.readlink() == source.readlink()
        )
    return source.samefile(target) or filecmp.cmp(source, target, shallow=False)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove the folders that a move has left empty, below ``root``."""
    while folder != root.absolute() and root.absolute() in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


@contextmanager
def _journal(folder: Path) -> Iterator[tuple[AppendLog, list[Move]]]:
    """The open journal and the moves in it; each line is on the disk before its move begins."""
    path = folder / MOVES
    with AppendLog(path, sync_every=0.0) as log:
        yield log, [_parse(row, path, number) for number, row in log.rows()]
        if path.exists() and path.stat().st_size == 0:
            path.unlink()


def _parse(row: Any, path: Path, number: int) -> Move:
    if isinstance(row, dict) and row.keys() == _FIELDS:
        names, numbers = (row["from"], row["to"]), (row["bytes"], row["mtime_ns"])
        if all(isinstance(x, str) for x in names) and all(isinstance(x, int) for x in numbers):
            return Move(*names, *numbers)
    raise InputError(f"{path}:{number}: not a move", "Restore the file from a copy.")
