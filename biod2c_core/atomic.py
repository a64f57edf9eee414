"""Write files and folders so that a reader, or a kill at any moment, never sees half of one.

SIGTERM in the middle removes the unfinished file, as Ctrl-C does.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from biod2c_core.errors import InputError
from biod2c_core.locks import hold

# How text is written that UTF-8 cannot hold (lone surrogates, which text of strangers may hold): as
# ``\ud83d``, which in JSON is their spelling, so that they are read back as they were.
NOT_UTF8 = "backslashreplace"
FILE_NAMES = "surrogateescape"  # the bytes that the name has on the disk


@contextmanager
def atomic_open(path: str | Path, mode: str = "w", *, errors: str = NOT_UTF8) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that replaces it when the block ends well.

    Args:
        path: The file to write; its folder is created.
        mode: ``"w"`` for UTF-8 text or ``"wb"`` for bytes.
        errors: What is done with text that UTF-8 cannot hold; :data:`FILE_NAMES` for files that are
            not JSON and name files.

    Yields:
        The open temporary file. On an exception it is removed and ``path`` stays as it was.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be made.
    """
    target = Path(path)
    make_folder(target.parent)
    if target.is_dir():
        raise InputError(f"{target} is a folder, expected a file to write", "Name another file.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    text = "b" not in mode
    try:
        with _raising_on_sigterm():
            with temporary.open(
                mode.replace("w", "x"),
                encoding="utf-8" if text else None,
                errors=errors if text else None,
            ) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folder(folder: str | Path) -> Path:
    """Make a folder and what it lies in, unless it is there.

    Raises:
        InputError: A file is in the way, or it may not be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"cannot make the folder {folder}: {error.strerror}", "Choose another folder."
        ) from error
    return Path(folder)


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON that every reader takes: NaN and infinities become ``null``.

    Args:
        value: Objects, lists, texts, numbers; anything else as its text.
        options: Of ``json.dumps``.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str, **options)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; see :func:`json_text`."""
    with atomic_open(path) as file:
        file.write(json_text(value, indent=2) + "\n")


@contextmanager
def atomic_folder(
    path: str | Path, *, replace: bool = False, resume: bool = False
) -> Iterator[Path]:
    """Make a folder beside ``path`` that takes its place when the block ends well.

    What a kill has left of an earlier attempt is removed first.

    Args:
        path: The folder; what it lies in is created.
        replace: Another folder there is replaced, and lost. Without it there may be none but an empty
            one.
        resume: The block goes on with what an earlier attempt, failed or killed, has left.

    Yields:
        The folder to write into. On an exception it is removed, unless ``resume``, and ``path`` stays
        as it was.

    Raises:
        InputError: There is something at ``path``, or it cannot be written.
    """
    place = Path(path).resolve()
    partial, aside = place.with_name(f".{place.name}.partial"), _aside(place)
    if aside.exists() and not place.exists():
        aside.rename(place)  # a kill came between the two renames of put_in_place
    shutil.rmtree(aside, ignore_errors=True)
    taken = place.exists() and (not place.is_dir() or (not replace and any(place.iterdir())))
    if taken:
        raise InputError(f"{path} exists already", "Give a new folder.")
    make_folder(partial)
    try:
        with _alone_in(partial), _raising_on_sigterm():
            if not resume:
                for left in partial.iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield partial
            put_in_place(partial, place)
    except _InUseError:
        raise InputError(
            f"{path} is being written by another run", "Wait for it, or give another folder."
        ) from None
    except BaseException as error:
        if not resume or not any(partial.glob("*")):
            shutil.rmtree(partial, ignore_errors=True)
        if _is_of_the_disk(error):
            raise OSError(f"{error}") from error
        raise


class _InUseError(Exception):
    """Another process writes the folder."""


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that would write it."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        yield
        return
    try:
        held = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # the other has just put it in place
        raise _InUseError from None
    try:
        there = hold(held) and folder.exists()
        if not there or not os.path.samestat(folder.stat(), os.fstat(held)):
            raise _InUseError
        yield
    finally:
        os.close(held)


def _is_of_the_disk(error: BaseException) -> bool:
    """Whether safetensors, which has errors of its own, could not write to the disk."""
    return type(error).__name__ == "SafetensorError" and "(os error" in str(error)


def put_in_place(written: Path, place: Path) -> None:
    """Sync a complete folder to the disk and let it take a place, in one step where the system can.

    Args:
        written: The folder, on the same disk; its files get the permissions that it has.
        place: Where it goes. A folder that is there already is replaced.
    """
    permissions = written.stat().st_mode & 0o666  # as other files have: safetensors' are private
    for path in sorted(written.rglob("*"), reverse=True):
        if path.is_symlink():
            continue
        if path.is_file():
            path.chmod(permissions)
        _sync(path)
    _sync(written)
    try:
        written.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        old = written if _exchange(written, place) else _aside(place)
        if old != written:
            place.rename(old)
            written.rename(place)
        _sync(place.parent)
        shutil.rmtree(old, ignore_errors=True)
    _sync(place.parent)


def _aside(place: Path) -> Path:
    """Where a folder waits for a moment while another takes its place."""
    return place.with_name(f".{place.name}.replaced")


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # only Linux has it
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(first), here, os.fsencode(second), swap) == 0


def _sync(path: Path) -> None:
    posix = os.name == "posix"
    if path.is_dir() and not posix:
        return  # only POSIX lets a folder be synced
    handle = os.open(path, os.O_RDONLY if posix else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise inside the block, where it would end the process without any cleaning up."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # not an Exception, which somebody may catch on the way
