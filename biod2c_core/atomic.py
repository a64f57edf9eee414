"""Write files so that a reader, or a kill at any moment, never sees half of one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    text = "b" not in mode
    try:
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


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_open(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, default=str)
        file.write("\n")
