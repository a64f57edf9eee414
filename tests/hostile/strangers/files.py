"""Files in the place of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of a file."""

    def play(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return play


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    """A file of other content."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return replaced(name, lambda path: path.write_bytes(data))


def link(target: str) -> Callable[[Path], None]:
    """A link; relative ones begin at the stranger's folder."""
    return lambda path: path.symlink_to(target)
