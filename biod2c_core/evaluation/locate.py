"""Data sets by name: ``vqa-rad`` instead of where it lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

from biod2c_core.data.formats import FORMATS, find_format
from biod2c_core.errors import InputError, nearest

DATA_VARIABLE = "BIOD2C_DATA"
_OTHER_NAMES = {"radvqa": "vqarad", "pvqa": "pathvqa"}


def plain_name(name: str) -> str:
    """The name of a data set in one spelling: VQA_RAD, RAD-VQA and vqa-rad are one."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return _OTHER_NAMES.get(plain, plain)


def find_data(data: str | Path) -> Path:
    """The path of a data set.

    Args:
        data: A path; or, where nothing is there, the name of a published data set, in any spelling.
            It is looked for among the folders of ``BIOD2C_DATA``, by the layout of their files, and then
            among its record files, by name: ``mmmu.jsonl``.

    Raises:
        InputError: There is neither such a path nor such a data set.
    """
    path = Path(data)
    names = {plain_name(name): name for name in FORMATS}
    wanted = names.get(plain_name(str(data)))
    if not path.exists() and wanted is None:
        near = nearest(plain_name(str(data)), names, cutoff=0.75)
        if near is not None:
            raise InputError(f"no data at {data}", f"Did you mean {names[near]!r}?")
    if path.exists() or wanted is None:
        return path  # reading it says what is wrong with it
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        raise InputError(
            f"no data at {data}, and {DATA_VARIABLE} is not set",
            f"Give a path, or set {DATA_VARIABLE} to the folder that holds the data sets.",
        )
    for folder in sorted(Path(root).iterdir()) if Path(root).is_dir() else []:
        if FORMATS[wanted].detect(folder) and find_format(folder).name == wanted:
            return folder
    if (imported := Path(root) / f"{wanted}.jsonl").is_file():
        return imported
    raise InputError(
        f"no {wanted} data set among the folders of {root}, and no {wanted}.jsonl in it",
        "Give its path.",
    )
