"""Dot-and-whisker plots as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

LABEL_WIDTH, PLOT_WIDTH, MARGIN, ROW_HEIGHT = 190, 420, 60, 24
MARKERS = {"majority": "diamond", "question_only": "circle"}


@dataclass(frozen=True)
class DotRow:
    """One line of a plot.

    Attributes:
        label: Left of the plot.
        value: Of the dot, in [0, 1].
        low: Left end of the whisker; None for no whisker.
        high: Its right end.
        remark: Right of the plot, such as the number of questions.
        others: Marker kind to value, drawn hollow.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    remark: str = ""
    others: Mapping[str, float] = field(default_factory=dict)


def _x(value: float) -> float:
    return round(LABEL_WIDTH + PLOT_WIDTH * value, 1)


def _other(kind: str, value: float, y: float) -> str:
    x = _x(value)
    if MARKERS.get(kind) == "diamond":
        shape = f'<path class="other" d="M{x - 5} {y}L{x} {y - 5}L{x + 5} {y}L{x} {y + 5}Z"/>'
    else:
        shape = f'<circle class="other" cx="{x}" cy="{y}" r="4.5"/>'
    return f"<g><title>{escape(kind.replace('_', ' '))} {value:.3f}</title>{shape}</g>"


def _row(row: DotRow, y: float) -> str:
    parts = [f'<text class="label" x="{LABEL_WIDTH - 10}" y="{y + 4}">{escape(row.label)}</text>']
    span = ""
    if row.low is not None and row.high is not None:
        parts.append(
            f'<line class="whisker" x1="{_x(row.low)}" x2="{_x(row.high)}" y1="{y}" y2="{y}"/>'
        )
        span = f" ({row.low:.3f} - {row.high:.3f})"
    parts += [_other(kind, value, y) for kind, value in row.others.items()]
    title = f"<title>{escape(row.label)}: {row.value:.3f}{span}</title>"
    parts.append(f'<g>{title}<circle class="dot" cx="{_x(row.value)}" cy="{y}" r="5"/></g>')
    right = LABEL_WIDTH + PLOT_WIDTH + 10
    parts.append(f'<text class="remark" x="{right}" y="{y + 4}">{escape(row.remark)}</text>')
    return "".join(parts)


def dot_plot(rows: Sequence[DotRow], title: str) -> str:
    """One row of dot, whisker and hollow markers each, over an axis from 0 to 1.

    Args:
        rows: From top to bottom.
        title: For screen readers.
    """
    height = ROW_HEIGHT * len(rows) + 30
    bottom = ROW_HEIGHT * len(rows) + 8
    grid = "".join(
        f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="4" y2="{bottom}"/>'
        f'<text class="tick" x="{_x(tick)}" y="{bottom + 15}">{tick:g}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    )
    lines = "".join(
        _row(row, ROW_HEIGHT * index + ROW_HEIGHT / 2 + 4) for index, row in enumerate(rows)
    )
    width = LABEL_WIDTH + PLOT_WIDTH + MARGIN
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{grid}{lines}</svg>'
    )
