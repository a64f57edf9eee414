"""Injuries: of bytes, of values in a tree of JSON, of numbers where a format has them."""

from __future__ import annotations

import random
import struct
from copy import deepcopy
from typing import Any

NASTY = (
    b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
    b"\x80\x00\x00\x00", b"9" * 5000, b"[" * 3000, b'{"a":' * 2000, b'"', b"\\ud800",
    b"../../../etc/passwd", b"\x00", b"\r\n", b"1e999", b"NaN", b"R", b"cos\nsystem\n",
    b"r\xff\xff\xff\xff", b"\x1b]0;x\x07", b"=cmd|'/c calc'!A0", b"[/b]", b"\xed\xa0\x80",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**6, 10**9, 2**63, 10**40, -(10**18), 0.0, -0.5, 1e308, 1e-320,
    float("nan"), float("inf"), float("-inf"), "", " ", "\x00", "a" * 100_000, "\ud800", "\x1b[31mred",
    "\u202egnp", "[/b]", "CT [contrast]", "=1+1", "@SUM(A1)", "../../../../etc/passwd", "/etc/passwd",
    "/dev/zero", "file:///etc/passwd", "http://127.0.0.1:1/x", "them/theirs", "~", "con\nnl", "\r", "1e999",
    "{question}", "{question:>300000000}", "{0.__class__}", "{% for a in range(10**9) %}{% endfor %}",
    "(x+x+)+y", "!!python/object/apply:os.system", [], {}, [None], [[]], {"": ""}, [1, "a", None],
    {"a": {"b": {"c": []}}}, DEEP, ["x"] * 5000, "NaN", "null", "true", "-5", "99999999999999999999",
)  # fmt: skip


def mutated(data: bytes, rng: random.Random, most: int = 4) -> bytes:
    """One to four random injuries."""
    body = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(body) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            for _ in range(rng.randint(1, 8)):
                body[rng.randrange(len(body))] = rng.randrange(256)
        elif kind == 1:
            body[at:at] = rng.choice(NASTY)
        elif kind == 2:
            nasty = rng.choice(NASTY)
            body[at : at + len(nasty)] = nasty
        elif kind == 3:
            del body[at : at + rng.randint(1, 40)]
        elif kind == 4:
            del body[at:]
        elif kind == 5:
            body[at:at] = body[max(0, at - 50) : at]
        else:
            renumber(body, rng)
        if not body:
            return b""
    return bytes(body)


def renumber(body: bytearray, rng: random.Random, within: int = 512) -> None:
    """Write an extreme number over one of the header, in either byte order."""
    form = rng.choice(("<B", "<H", ">H", "<I", ">I", "<f", ">f", "<Q", "<d"))
    size = struct.calcsize(form)
    if len(body) < size:
        return
    at = rng.randrange(min(within, len(body)) - size + 1)
    if form[1] in "fd":
        values: tuple[float, ...] = (float("nan"), float("inf"), float("-inf"), 1e38, -1.0, 0.0)
        body[at : at + size] = struct.pack(form, rng.choice(values))
    else:
        body[at : at + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(
            size, "little" if form[0] == "<" else "big"
        )


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    if isinstance(tree, dict | list):
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        for key in keys:
            found.append((tree, key))
            found += places(tree[key])
    return found


def mutate_tree(tree: Any, rng: random.Random, most: int = 3) -> Any:
    """Change one to three values, names or lengths of a tree of JSON, in place."""
    for _ in range(rng.randint(1, most)):
        found = places(tree)
        if not found:
            return deepcopy(rng.choice(VALUES))
        holder, key = rng.choice(found)
        kind = rng.randrange(8)
        if kind <= 4:
            holder[key] = deepcopy(rng.choice(VALUES))
        elif kind == 5:
            del holder[key]
        elif isinstance(holder, dict):
            name = rng.choice((str(key).upper(), f"{key}2", "", "\ud800", "__class__", "auto_map"))
            holder[name] = holder.pop(key) if kind == 6 else deepcopy(rng.choice(VALUES))
        else:
            holder += [holder[key]] * rng.choice((1, 3, 1000))
    return tree


def either(text: bytes, tree: Any, dump: Any, rng: random.Random) -> bytes:
    """Damage the bytes, or the tree that they stand for."""
    if rng.random() < 0.4:
        return mutated(text, rng)
    data: bytes = dump(mutate_tree(tree, rng))
    return mutated(data, rng, 1) if rng.random() < 0.1 else data
