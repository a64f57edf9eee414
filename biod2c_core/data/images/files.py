"""Where an image comes from: paths inside their root, files of a sensible length, a time limit."""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from biod2c_core.errors import ImageError

MAX_BYTES = 512 * 1024**2
MAX_SECONDS = 20.0
IMAGE_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "png", "gif", "bmp", "tif", "tiff", "webp", "jp2", "j2k"),
        *("ppm", "pgm", "pbm", "dcm", "nii", "nii.gz"),
    )
)


class TimedFile(io.BufferedIOBase):
    """A binary file that stops being read when decoding has taken too long.

    Processor time of this thread counts, so a slow disk or a busy machine is not to blame. Headers
    that a decoder walks through piece by piece are bounded by this, however long the file makes
    them.

    Args:
        file: Open binary file.
        name: How messages name it.
        seconds: Processor time from now on.
    """

    def __init__(self, file: BinaryIO, name: str, seconds: float = MAX_SECONDS) -> None:
        self._file = file
        self._name = name
        self._seconds = seconds
        self._end = time.thread_time() + seconds

    def read(self, size: int | None = -1) -> bytes:
        """Read, if there is time left.

        Raises:
            ImageError: The time is used up.
        """
        self.check()
        return self._file.read(-1 if size is None else size)

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line, as :meth:`read` does."""
        self.check()
        return self._file.readline(-1 if size is None else size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def check(self) -> None:
        """Stop if the time is used up.

        Raises:
            ImageError: It is.
        """
        if time.thread_time() > self._end:
            raise ImageError(
                f"{self._name} takes over {self._seconds:g} s to decode",
                "Export it again, simpler.",
            )


def open_image(
    source: str | Path | bytes | BinaryIO, name: str, root: str | Path | None, max_bytes: int
) -> BinaryIO:
    """The source as an open file that can be read from any place.

    Raises:
        ImageError: Missing, not a regular file, empty, or longer than ``max_bytes``.
    """
    if not isinstance(source, str | Path):
        return io.BytesIO(_read_limited(source, name, max_bytes))
    path = Path(source) if root is None else resolve_image(root, source)
    try:
        return check_image_file(path, max_bytes).open("rb")
    except OSError as error:
        raise ImageError(
            f"cannot read {path}: {error.strerror}", "Check its permissions."
        ) from error


def resolve_image(root: str | Path, name: str | Path, *, allow_outside: bool = False) -> Path:
    """The path of an image that a record names, never outside its root.

    The check is made on the written path, ``..`` taken out, and the same path is then opened. A
    symbolic link inside the root is followed: whoever owns the folder put it there.

    Args:
        root: The image root.
        name: Path relative to the root, or an absolute one inside it.
        allow_outside: Accept paths that leave the root.

    Raises:
        ImageError: The path leaves the root.
    """
    # Not Path.resolve(): it follows links, which may point anywhere the folder's owner wishes.
    base = os.path.abspath(root)  # noqa: PTH100
    path = os.path.normpath(os.path.join(base, name))  # noqa: PTH118
    inside = path == base or path.startswith(base.rstrip(os.sep) + os.sep)
    if not inside and not allow_outside:
        raise ImageError(
            f"image {str(name)!r} lies outside the image root {str(root)!r}",
            "Use paths inside the image root, or name another image root.",
        )
    return Path(path)


def describe_source(source: str | Path | bytes | BinaryIO) -> str:
    """How an error message names the image."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "the image data"


def check_image_file(path: Path, max_bytes: int = MAX_BYTES) -> Path:
    """Refuse what is not a regular file of a sensible length, before opening it.

    Raises:
        ImageError: Missing, a folder, a device, empty, unreadable or too long.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ImageError(f"image not found: {path}", "Check the path and the image root.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read image {str(path)!r}: {error}", "Check the path.") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ImageError(f"{path} is {kind}, expected an image file", "Name one image file.")
    _check_length(status.st_size, str(path), max_bytes)
    return path


def _check_length(length: int, name: str, max_bytes: int) -> None:
    if length == 0:
        raise ImageError(f"{name} is empty (0 bytes), expected an image", "Copy the file again.")
    if length > max_bytes:
        raise ImageError(
            f"{name} has {length:,} bytes, over the limit of {max_bytes:,}",
            "Save it smaller, or raise the limit (max_bytes).",
        )


def _read_limited(source: bytes | BinaryIO, name: str, max_bytes: int) -> bytes:
    data = source if isinstance(source, bytes) else source.read(max_bytes + 1)
    _check_length(len(data), name, max_bytes)
    return data
