"""How many answers a least confidence leaves, and how many of them are right: numbers and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import InputError, MissingDependencyError

WANTED = 0.95  # share of right answers that the recommendation is for
_LEAST_ANSWERS = 20


def risk_coverage(confidences: Sequence[float], right: Sequence[bool]) -> list[dict[str, Any]]:
    """A row for each least confidence: the share of answers that it leaves, and of right ones among these.

    Args:
        confidences: Of answers, in [0, 1].
        right: Whether each is right.
    """
    steps = [*np.arange(20) / 20, 0.99]
    rows = [_row(round(float(least), 2), confidences, right) for least in steps]
    return [row for row in rows if row["answers"]]


def recommend(confidences: Sequence[float], right: Sequence[bool]) -> float | None:
    """The smallest least confidence that leaves at least 95 % right answers; None where none does.

    Arguments as of :func:`risk_coverage`.
    """
    for step in range(100):
        row = _row(step / 100, confidences, right)
        if row["answers"] >= _LEAST_ANSWERS and row["accuracy"] >= WANTED:
            return step / 100
    return None


def _row(least: float, confidences: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    kept = np.array(confidences) >= least
    count = int(kept.sum())
    return {
        "min_confidence": least,
        "answers": count,
        "coverage": round(count / len(kept), 4),
        "accuracy": round(float(np.array(right)[kept].mean()), 4) if count else None,
    }


def check_plot_path(path: Path) -> Path:
    """Refuse a plot that could not be drawn, before a model runs for it.

    Raises:
        InputError: The name does not end in ``.png``.
        MissingDependencyError: matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} is not the name of a PNG", "Let its name end in .png.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "plots") from error
    return path


def draw_risk_coverage(
    rows: Sequence[dict[str, Any]], recommended: float | None, path: Path
) -> None:
    """Draw the curve as a PNG, atomically.

    Args:
        rows: Of :func:`risk_coverage`.
        recommended: Of :func:`recommend`, marked.
        path: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["coverage"] for row in rows], [1 - row["accuracy"] for row in rows], marker=".")
    for row in rows[::2]:
        place = (row["coverage"], 1 - row["accuracy"])
        axes.annotate(
            f"{row['min_confidence']:.2f}", place, (4, 4), textcoords="offset points", fontsize=7
        )
    axes.axhline(1 - WANTED, linestyle="--", linewidth=1)
    title = (
        "no --min-confidence leaves"
        if recommended is None
        else f"--min-confidence {recommended:.2f} leaves"
    )
    axes.set_title(f"{title} {WANTED:.0%} right answers")
    axes.set_xlabel("coverage: share of questions answered")
    axes.set_ylabel("risk: share of wrong answers among them")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    with atomic_open(path, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
