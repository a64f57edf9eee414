"""Say how good the embedded filter is, from what ``fit`` wrote: ``report.py OUT`` prints markdown.

Two things that the paper's rule asks for are told apart here: whether a source never seen is judged
rightly (its plain images, by a classifier trained without it), and whether panels are counted (figures
made of pictures that were not trained on, by the classifier that ships).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Row = dict[str, str]
THRESHOLD = 0.5


def read_rows(out: Path) -> list[Row]:
    """The predictions, each with the number of panels that its image has."""
    with (out / "labels.csv").open(encoding="utf-8", newline="") as file:
        panels = {row["image"]: row["panels"] for row in csv.DictReader(file)}
    with (out / "filter" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [{**row, "panels": panels[row["image"]]} for row in csv.DictReader(file)]
    return [row for row in rows if row["polluted"]]


def is_right(row: Row) -> bool:
    """Whether the threshold gives the label."""
    return (float(row["polluted"]) >= THRESHOLD) == (row["label"] == "polluted")


def share(rows: list[Row]) -> str:
    """Right ones of how many."""
    right = sum(map(is_right, rows))
    return f"{right / len(rows):.3f} ({right} of {len(rows)})"


def pair_f1(rows: list[Row], names: set[str]) -> float:
    """F1 of finding the polluted ones among the plain images of a clean folder and a polluted kind."""
    mine = [row for row in rows if row["source"] in names]
    found = [row for row in mine if float(row["polluted"]) >= THRESHOLD]
    true = sum(row["label"] == "polluted" for row in found)
    real = sum(row["label"] == "polluted" for row in mine)
    return 2 * true / max(1, len(found) + real)


def source_lines(rows: list[Row], folds: list[str]) -> Iterator[str]:
    """Each source, judged without having been seen."""
    plain = [
        row
        for row in rows
        if row["split"] == "train" and row["panels"] in ("", "1") and "+" not in row["source"]
    ]
    yield "| source, not trained on | judged rightly |"
    yield "|---|---|"
    for name in sorted({row["source"] for row in plain}):
        yield f"| {name} | {share([row for row in plain if row['source'] == name])} |"
    yield ""
    yield "| left out together | F1 |"
    yield "|---|---|"
    for fold in folds:
        yield f"| {fold.replace('+', ' and ')} | {pair_f1(plain, set(fold.split('+'))):.3f} |"


def panel_lines(rows: list[Row]) -> Iterator[str]:
    """Figures of pictures that were not trained on, by their number of panels."""
    tilings = [row for row in rows if row["split"] == "test" and int(row["panels"]) > 1]
    groups: list[tuple[str, Callable[[int], bool]]] = [
        (str(count), lambda panels, count=count: panels == count) for count in range(2, 10)
    ]
    groups += [
        ("10 to 12", lambda panels: 10 <= panels <= 12),
        ("more than 12", lambda panels: panels > 12),
        ("**2 to 6: clean**", lambda panels: panels <= 6),
        ("**more than 6: polluted**", lambda panels: panels > 6),
    ]
    yield "| panels | judged rightly |"
    yield "|---|---|"
    for name, belongs in groups:
        chosen = [row for row in tilings if belongs(int(row["panels"]))]
        if chosen:
            yield f"| {name} | {share(chosen)} |"


def main() -> None:
    """Command line."""
    out = Path(sys.argv[1])
    rows = read_rows(out)
    report = json.loads((out / "filter" / "report.json").read_text("utf-8"))
    folds = [fold["held_out"] for fold in report["folds"]]
    print(*source_lines(rows, folds), "", *panel_lines(rows), sep="\n")
    error = report["held_out"]["calibration_error"]
    print(f"\nCalibration error on all held-out images: {error:.3f}")


if __name__ == "__main__":
    main()
