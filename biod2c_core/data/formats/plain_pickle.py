"""Read a pickle that holds lists, dicts, texts and numbers, and nothing that could run code.

The opcodes that import, call or build objects do not exist for this reader, so a pickle that
contains one is refused before it does anything. Opcodes whose operand alone can claim memory (memo
slot number four billion) are harmless because Python's own pickle machine keeps its memo in a dict;
the faster one in C fills an array.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from biod2c_core.errors import InputError

MAX_BYTES = 16 << 20  # a byte of pickle can become a hundred of memory
_PLAIN = frozenset(
    f"load_{name}"
    for group in (
        "proto frame stop mark put binput long_binput memoize get binget long_binget",
        "empty_list list append appends empty_dictionary dict setitem setitems",
        "none true false int binint binint1 binint2 long long1 float binfloat",
        "unicode binunicode short_binunicode binunicode8 string binstring short_binstring",
    )
    for name in group.split()
)


class _RefusedError(Exception):
    pass


def _refuse(machine: Any) -> NoReturn:
    raise _RefusedError


class _PlainUnpickler(pickle._Unpickler):
    dispatch = {  # noqa: RUF012 (the base class's name and kind)
        code: method if method.__name__ in _PLAIN else _refuse
        for code, method in pickle._Unpickler.dispatch.items()
    }

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _RefusedError


def load_plain_pickle(path: Path) -> Any:
    """Decode a pickle of plain values.

    Raises:
        InputError: The file is missing, over 16 MiB, damaged, or asks for anything but lists,
            dicts, texts and numbers.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is over {MAX_BYTES >> 20} MiB", "Convert it to JSONL.")
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
    except _RefusedError:
        raise InputError(
            f"{path} is a pickle with more in it than lists, dicts, texts and numbers",
            "It could run code when read, so it is refused. Convert it to JSONL where you trust it.",
        ) from None
    except (Exception, MemoryError) as error:  # the machine raises nearly anything on damaged bytes
        raise InputError(f"{path} is not a readable pickle", "Download it again.") from error
