"""Images that stand inside data files, written to a folder, each once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open
from biod2c_core.data.images import MAX_BYTES

_MAGIC = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
}


def store_picture(image: Any, folder: Path, field: str = "image") -> str:
    """Write an image's bytes under a name made of them: rows of one image get the same name.

    Args:
        image: The bytes, or an object with them as ``bytes``, or a list of one such.
        folder: Where to.
        field: What the row calls it, for the message.

    Returns:
        The name in the folder.

    Raises:
        ValueError: There are no bytes of an image.
    """
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes) or not data:
        kind = "nothing" if data is None or data == b"" else f"{type(data).__name__}"
        raise ValueError(f"field {field!r} holds no bytes of an image, but {kind}")
    suffix = next((end for magic, end in _MAGIC.items() if data.startswith(magic)), None)
    if suffix is None or len(data) > MAX_BYTES:
        raise ValueError(f"field {field!r} is not a JPEG, PNG, GIF, BMP, TIFF or WebP")
    name = hashlib.sha256(data).hexdigest()[:24] + suffix
    if not (folder / name).exists():
        with atomic_open(folder / name, "wb") as file:
            file.write(data)
    return name
