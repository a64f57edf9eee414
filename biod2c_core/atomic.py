"""Write files so that a reader, or a kill at any moment, never sees half of one."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that replaces it when the block ends well.

    Args:
        path: The file to write; its folder is created.
        mode: ``"w"`` for UTF-8 text or ``"wb"`` for bytes.

    Yields:
        The open temporary file. On an exception it is removed and ``path`` stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
    temporary = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; keep the user's habit
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
