"""The images of a run, each with a name and a place: in a folder, named by JSONL, or inside tar shards."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from biod2c_core.data.images import IMAGE_SUFFIXES, MAX_BYTES, load_image, resolve_image
from biod2c_core.data.records import iter_jsonl
from biod2c_core.errors import ImageError, InputError, RecordError

WHOLE_FILE = -1
_BLOCK = 2**20  # bytes of a file that are held at once while it is hashed


class Item(NamedTuple):
    """One image of a run.

    Attributes:
        name: How the output names it: its path below the folder or image root, or
            ``shard.tar/member``. Unique in a run.
        path: The file that holds it.
        offset: Where its bytes start.
        length: How many there are, or ``WHOLE_FILE``.
        problem: Why it cannot be read; empty for the others.
    """

    name: str
    path: str
    offset: int = 0
    length: int = WHOLE_FILE
    problem: str = ""


def list_images(source: str | Path, image_root: Path | None = None) -> list[Item]:
    """Find every image, each once, in an order that depends on names alone.

    Args:
        source: A folder (images and ``.tar`` shards below it), one ``.tar``, or a JSONL file whose rows
            have the field ``image``.
        image_root: JSONL only: the folder that the images are relative to, by default the file's.

    Raises:
        InputError: Nothing there, no image in it, or a damaged shard.
        RecordError: A row of the JSONL is malformed.
    """
    path = Path(source)
    if path.is_dir():
        items = list(_in_folder(path))
    elif path.suffix.lower() == ".tar":
        items = list(_in_tar(path, path.name))
    elif path.is_file():
        items = list(_in_jsonl(path, image_root or path.parent))
    else:
        raise InputError(f"no images at {path}", "Give a folder, a JSONL file, or a .tar shard.")
    if not items:
        endings = " ".join(IMAGE_SUFFIXES)
        raise InputError(f"{path} holds no image", f"Endings that are looked for: {endings}.")
    return items


def read_image(item: Item) -> Image.Image:
    """Decode one image.

    Raises:
        ImageError: It cannot be used.
        MissingDependencyError: DICOM or NIfTI without the extra ``medical``.
    """
    if item.problem:
        raise ImageError(item.problem)
    if item.length == WHOLE_FILE:
        return load_image(item.path)
    if item.length > MAX_BYTES:
        raise ImageError(f"{item.name} has {item.length:,} bytes, over the limit of {MAX_BYTES:,}")
    with Path(item.path).open("rb") as file:
        file.seek(item.offset)
        data = io.BytesIO(file.read(item.length))
    data.name = item.name  # what error messages call it
    return load_image(data)


def picture_checksum(item: Item) -> str:
    """The bytes of an image in 20 hexadecimal digits; empty where they cannot be read or are too many."""
    path = Path(item.path)
    try:
        if not path.is_file():  # reading a pipe would not end
            return ""
        size = path.stat().st_size if item.length == WHOLE_FILE else item.length
        if size > MAX_BYTES:
            return ""
        with path.open("rb") as file:
            file.seek(item.offset)
            digest = hashlib.sha256()
            while size > 0 and (block := file.read(min(size, _BLOCK))):
                digest.update(block)
                size -= len(block)
            return digest.hexdigest()[:20]
    except (OSError, ValueError):
        return ""


def image_names(path: Path) -> Iterator[tuple[str, Any]]:
    """The image that each row of a JSONL file names, with the row.

    Raises:
        InputError: The file cannot be opened.
        RecordError: A row is not an object or has no ``image``.
    """
    for number, row in iter_jsonl(path):
        name = row.get("image") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name.strip():
            remedy = "Other layouts become such rows by 'biod2c data import'."
            raise RecordError(path, number, "no field 'image' with a file name", remedy)
        yield name.strip(), row


def _in_folder(root: Path) -> Iterator[Item]:
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if name.lower().endswith(".tar"):
                yield from _in_tar(path, relative)
            elif name.lower().endswith(IMAGE_SUFFIXES):
                yield Item(relative, str(path))


def _in_tar(path: Path, prefix: str) -> Iterable[Item]:
    """The members that are images; of several with one name the last, as unpacking would leave it."""
    found: dict[str, Item] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if member.isreg() and member.name.lower().endswith(IMAGE_SUFFIXES):
                    name = f"{prefix}/{member.name}"
                    found[name] = Item(name, str(path), member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "Compressed shards are unpacked by gunzip first; a damaged one is copied again."
        raise InputError(f"cannot read {path} as a tar file: {reason}", remedy) from error
    return found.values()


def _in_jsonl(path: Path, root: Path) -> Iterator[Item]:
    seen: set[str] = set()
    for name, _ in image_names(path):
        if name in seen:
            continue
        seen.add(name)
        try:
            if b"\0" in os.fsencode(name):
                raise ValueError
            yield Item(name, str(resolve_image(root, name)))
        except ImageError as error:
            yield Item(name, "", problem=error.problem)
        except ValueError:  # no file can have it
            yield Item(name, "", problem=f"{name!r} is not a file name")
