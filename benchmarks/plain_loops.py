"""Made records, and the plain json and csv loops that importing and mixing are compared with."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biod2c_core.data.records import ANSWER_TYPES, FIELDS, SPLITS

TEXTS = ("id", "image", "question", "answer", "answer_type", "caption", "source", "split")


def make_row(index: int) -> dict[str, Any]:
    """A record like those of VQA sets: five questions about an image, a short answer, two tags."""
    return {
        "id": str(index),
        "image": f"images/{index // 5}.png",
        "question": f"Is there a lesion of {index} mm in the left lobe of the liver?",
        "answer": "yes" if index % 2 else "no",
        "answer_type": "CLOSED",
        "source": "made",
        "split": "train",
        "tags": {"modality": "CT", "organ": "liver"},
    }


def write_rows(folder: Path, rows: int) -> None:
    """The same records as JSONL and as CSV, and lines that are not records."""
    with (folder / "rows.jsonl").open("w") as lines, (folder / "rows.csv").open("w") as table:
        writer = csv.writer(table)
        for index in range(rows):
            row = make_row(index)
            lines.write(json.dumps(row) + "\n")
            tags = row.pop("tags")
            if index == 0:
                writer.writerow([*row, *tags])
            writer.writerow([*row.values(), *tags.values()])
    with (folder / "malformed.jsonl").open("w") as lines:
        lines.writelines("x\n" for _ in range(rows))


def check_row(row: Any, seen: set[str]) -> None:
    """The checks of a record, written plainly."""
    if not isinstance(row, dict) or not row.keys() <= FIELDS:
        raise ValueError("no record")
    for name in TEXTS:
        value = row.get(name, "")
        if not isinstance(value, str):
            raise ValueError(name)
        value.encode()
    for name in ("id", "image", "question"):
        if not row.get(name, "").strip():
            raise ValueError(name)
    if row.get("answer_type", "") not in ANSWER_TYPES or row.get("split", "") not in SPLITS:
        raise ValueError("answer_type or split")
    for text in (*row.get("queue", ()), *row.get("tags", {}).values()):
        if not isinstance(text, str):
            raise ValueError("queue or tags")
    if row["image"].startswith("/") or ".." in row["image"].split("/"):
        raise ValueError("image")
    if row["id"] in seen:
        raise ValueError("id")
    seen.add(row["id"])


def plain_rows(source: Path) -> Iterator[dict[str, Any]]:
    """The checked rows of a JSONL or CSV file."""
    seen: set[str] = set()
    with source.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file) if source.suffix == ".csv" else map(json.loads, file):
            if source.suffix == ".csv":
                row["tags"] = {name: row.pop(name) for name in list(row) if name not in FIELDS}
            check_row(row, seen)
            yield row


def plain_copy(source: Path, out: Path, half: bool = False) -> Path:
    """Read, check, point to the images from the new place, write; with ``half`` exactly half."""
    taken = None
    if half:
        order = sorted(
            (hashlib.sha256(f"0\0{row['id']}".encode()).digest()[:8], row["id"])
            for row in plain_rows(source)
        )
        taken = {name for _, name in order[: (len(order) + 1) // 2]}
    with out.open("w", encoding="utf-8") as file:
        for row in plain_rows(source):
            if taken is None or row["id"] in taken:
                row["image"] = f"{out.stem.removesuffix('-plain')}_images/{row['image']}"
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return out


def same_rows(ours: Path, plain: Path) -> bool:
    """Whether two JSONL files hold the same records."""
    with ours.open() as first, plain.open() as second:
        return all(
            json.loads(one) == json.loads(other) for one, other in zip(first, second, strict=True)
        )
