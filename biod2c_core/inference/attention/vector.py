"""Figures for print: text as text and pictures at their full size, in a PDF or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import MissingDependencyError
from biod2c_core.inference.attention.render import LINE, Sheet

VECTOR = (".pdf", ".svg")
_DPI = 100  # pixels of a sheet to the inch
_TEXT = 7.5  # points, so that lines are no wider than where they were wrapped


def check_vector() -> None:
    """Refuse before a model runs for it.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "plots") from error


def save_vector(path: Path, sheet: Sheet) -> None:
    """Write a sheet, atomically, as the suffix says.

    Args:
        path: Ending in ``.pdf`` or ``.svg``.
        sheet: From :func:`biod2c_core.inference.attention.render.arrange`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    check_vector()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    width, height = sheet.size
    drawn = Figure((width / _DPI, height / _DPI), dpi=_DPI)
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for placed in sheet.pictures:
        right, bottom = placed.left + placed.size[0], placed.top + placed.size[1]
        axes.imshow(
            placed.picture,
            extent=(placed.left, right, bottom, placed.top),
            interpolation="none",  # the reader's own; dots of the page would be burnt in
            aspect="auto",
        )
    for left, top, text in sheet.texts:
        axes.text(
            left,
            top + LINE / 2,
            text,
            fontsize=_TEXT,
            va="center",
            parse_math=False,  # a question may hold $
        )
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    suffix = path.suffix.lower().lstrip(".")
    # the same figure gives the same file, and its text can be searched and edited
    options: Any = {"svg.hashsalt": "biod2c", "svg.fonttype": "none", "pdf.fonttype": 42}
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[suffix]
    with rc_context(options), atomic_open(path, "wb") as file:
        drawn.savefig(file, format=suffix, metadata=date)
