"""Dot-and-whisker plots as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from biod2c_core.pages import render

LABEL_WIDTH, PLOT_WIDTH, MARGIN, ROW_HEIGHT = 190, 420, 60, 24


@dataclass(frozen=True)
class DotRow:
    """One line of a plot.

    Attributes:
        label: Left of the plot.
        value: Of the dot, in [0, 1].
        low: Left end of the whisker; None for no whisker.
        high: Its right end.
        remark: Right of the plot, such as the number of questions.
        others: Baseline to value, drawn hollow: ``majority`` as a diamond, others as circles.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    remark: str = ""
    others: Mapping[str, float] = field(default_factory=dict)


def _x(value: float) -> float:
    return round(LABEL_WIDTH + PLOT_WIDTH * value, 1)


def dot_plot(rows: Sequence[DotRow], title: str) -> Markup:
    """One row of dot, whisker and hollow markers each, over an axis from 0 to 1.

    Args:
        rows: From top to bottom.
        title: For screen readers.
    """
    return render(
        "report/dot_plot.html",
        rows=rows,
        title=title,
        x=_x,
        row_height=ROW_HEIGHT,
        bottom=ROW_HEIGHT * len(rows) + 8,
        width=LABEL_WIDTH + PLOT_WIDTH + MARGIN,
        height=ROW_HEIGHT * len(rows) + 30,
    )


@dataclass(frozen=True)
class PictureRow:
    """One line of :func:`controls_plot`.

    Attributes:
        label: Left of the plot.
        values: ``own`` and each control to a value in [0, 1]; None where there is none.
        ends: Of the whisker around the own value; None for no whisker.
        remark: Right of the plot.
    """

    label: str
    values: Mapping[str, float | None]
    ends: tuple[float | None, float | None]
    remark: str


def controls_plot(rows: Sequence[PictureRow], names: Mapping[str, str], alone: bool) -> Markup:
    """A row a group: a dot with whisker for the own image, a mark of its own for each control.

    Args:
        rows: From top to bottom.
        names: ``own`` and each control to its name in the legend.
        alone: Whether it is a file of its own, with its colours.
    """
    bottom = ROW_HEIGHT * len(rows) + 8
    return render(
        "report/controls_plot.html",
        rows=rows,
        names=names,
        alone=alone,
        x=_x,
        row_height=ROW_HEIGHT,
        bottom=bottom,
        width=LABEL_WIDTH + PLOT_WIDTH + MARGIN,
        height=bottom + 24 + 20 * ((len(names) + 1) // 2),
    )


@dataclass(frozen=True)
class Line:
    """A line through points in the unit square, solid or dashed."""

    name: str
    points: Sequence[tuple[float, float]]
    solid: bool = True


@dataclass(frozen=True)
class Dot:
    """A point in the unit square with a text for those who point at it."""

    x: float
    y: float
    name: str


def line_plot(lines: Sequence[Line], dots: Sequence[Dot], titles: tuple[str, str, str]) -> Markup:
    """Lines and dots over axes from 0 to 1.

    Args:
        lines: Drawn first.
        dots: Drawn over them.
        titles: Of the plot (for screen readers), of the horizontal and of the vertical axis.
    """
    left, top, side = 60, 30, 320
    title, x_title, y_title = titles
    return render(
        "report/line_plot.html",
        lines=lines,
        dots=dots,
        title=title,
        x_title=x_title,
        y_title=y_title,
        x=lambda value: round(left + side * value, 1),
        y=lambda value: round(top + side * (1 - value), 1),
        width=left + side + 30,
        height=top + side + 45,
    )
