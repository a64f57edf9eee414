"""Keep image paths right when records are written to another folder than they came from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from biod2c_core.data.images import resolve_image
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError, InputError

FOLDERS = 1 << 16  # remembered at once
_NO_NAMES = ("", ".", "..")


class ImagePaths:
    """Rewrites image paths so that they are relative to the folder of a new JSONL file.

    Images below that folder get a plain relative path. For others a symbolic link
    ``<name>_images`` is put beside the file, to the deepest folder above all the image roots, and
    the paths go through it: no image is copied, and no path needs ``..``.

    Args:
        out: The JSONL file that will hold the records.
        roots: The image roots of everything that goes into it.
        allow_outside: Keep image paths that leave their root, as absolute ones.
    """

    def __init__(self, out: Path, roots: Iterable[Path], allow_outside: bool = False) -> None:
        home = os.path.abspath(out.parent)  # noqa: PTH100 (links stay as they are)
        folders = [os.path.abspath(root) for root in roots]  # noqa: PTH100
        below = os.path.commonpath([home, *folders]) == home
        self.base = home if below else os.path.commonpath(folders)
        self.link = None if below else out.with_name(f"{out.stem}_images")
        self.allow_outside = allow_outside
        self._located = lru_cache(FOLDERS)(self._locate)
        if self.link and self.link.exists() and not self.link.is_symlink():
            raise InputError(
                f"{self.link} exists and is not a link to the images", "Choose another OUT name."
            )

    def relocate(self, record: Record, root: Path) -> Record:
        """The record with its image path made relative to the new file.

        Raises:
            ImageError: The path leaves ``root``.
        """
        # Each folder is located once: images are many, and often one for each record.
        folder, slash, name = record.image.rpartition("/")
        path = None if name in _NO_NAMES or os.sep in name else self._located(root, folder + slash)
        if path is None:
            path = self._relative(str(self._resolve(root, record.image)))
        else:
            path += name
        return record if path == record.image else record.changed(image=path)

    def _locate(self, root: Path, folder: str) -> str | None:
        """What stands before the names of a folder's images; None where each has to be checked."""
        try:
            return self._relative(os.path.join(self._resolve(root, folder), ""))  # noqa: PTH118
        except ImageError:
            return None

    def _resolve(self, root: Path, name: str) -> Path:
        return resolve_image(root, name, allow_outside=self.allow_outside)

    def _relative(self, path: str) -> str:
        above = self.base.rstrip(os.sep) + os.sep
        if not path.startswith(above):
            return path
        return os.path.join(self.link.name if self.link else "", path[len(above) :])  # noqa: PTH118

    def write_link(self) -> None:
        """Make the link, if one is needed; call it when the file is complete."""
        if self.link is None:
            return
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}.partial")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.base, target_is_directory=True)
        fresh.replace(self.link)
