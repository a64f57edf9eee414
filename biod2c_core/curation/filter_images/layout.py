"""How a figure is divided into panels: straight edges and empty lines, cut recursively.

Panels of a figure are parted by gutters (lines of one colour) or touch along a straight seam. Both show
in one column or row of pixels at once, much finer than the encoder's grid, so they are measured on
the pixels. Two maps are made for each direction, here for vertical lines:

- *edge votes*: at each row, the places where brightness changes most within :data:`_REACH` pixels. At
  a seam nearly all rows vote for the same column, however faint the step; texture spreads its votes.
- *emptiness*: the places where a pixel equals the one below. A gutter is empty over its whole length.

A rectangle is cut at all its separators at once, then each part in the other direction, and so on: the
X-Y cut of document analysis. Summed maps make each rectangle cost a few vector operations. What counts
as a separator differs (a faint seam, dark background between cells), so the cut is made with several
:data:`RULES` and the classifier learns how far to believe each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

SIDE = 320
_REACH = 3  # pixels
_FLOOR = 2  # grey levels: smaller steps are not an edge
_MARGIN = 4  # pixels at the border of a rectangle that hold no separator
_SMALLEST = 12  # pixels: a narrower part is not a panel
_DEEPEST = 5
_EMPTY_SHARE = 0.97  # of a line's pixels, for the line to be empty
_BLANK_SHARE = 0.95  # of a part's lines empty both ways, for it to be no panel
MOST_PANELS = 40
_SEAMS = 8  # how many of the strongest seams across the whole figure are reported


@dataclass(frozen=True)
class Rule:
    """What counts as a separator.

    Attributes:
        seam: Share of a line's votes that makes it a seam; above 1 none is.
        empty: Grey levels between neighbours along a line up to which the line is empty there; 0
            ignores empty lines.
        bounded: Empty lines count only where a side of the gap is an edge with at least this share of
            votes.
    """

    seam: float
    empty: int = 0
    bounded: float = 0.0


RULES = (
    Rule(seam=0.75),
    Rule(seam=0.6),
    Rule(seam=0.75, empty=6, bounded=0.5),
    Rule(seam=0.75, empty=2, bounded=0.35),
    Rule(seam=0.75, empty=2),
    Rule(seam=0.75, empty=6),
)
_LEVELS = sorted({rule.empty for rule in RULES if rule.empty})
_FEATURES_OF_RULE = 10
_TONES = 13
_SHAPE = 2
FEATURES = len(RULES) * _FEATURES_OF_RULE + 4 * _SEAMS + _TONES + _SHAPE

Rectangle = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class _Lines:
    """Summed maps of one direction: entry k is the sum over the first k rows.

    Attributes:
        votes: (SIDE + 1, SIDE - 1), of the edge between column x and x + 1.
        empty: (SIDE, SIDE) by grey levels, of pixels that equal the one below.
    """

    votes: np.ndarray
    empty: dict[int, np.ndarray]

    def edge_shares(self, start: int, stop: int, low: int, high: int) -> np.ndarray:
        """Share of the rows start..stop that vote for each inner edge of low..high."""
        return (self.votes[stop, low : high - 1] - self.votes[start, low : high - 1]) / (
            stop - start
        )

    def empty_shares(self, level: int, start: int, stop: int, low: int, high: int) -> np.ndarray:
        """Share of the rows start..stop at which each column of low..high is empty."""
        summed = self.empty[level]
        return (summed[stop - 1, low:high] - summed[start, low:high]) / max(1, stop - 1 - start)


@dataclass
class Cut:
    """A figure cut by one rule.

    Attributes:
        panels: The parts that are not blank.
        blanks: How many parts are.
        strengths: Edge share of each separator.
    """

    panels: list[Rectangle] = field(default_factory=list)
    blanks: int = 0
    strengths: list[float] = field(default_factory=list)


def layout_features(pixels: np.ndarray, aspect: float) -> np.ndarray:
    """Measure a figure.

    Args:
        pixels: (SIDE, SIDE, 3), uint8.
        aspect: Width by height, before the figure was made square: panels of a strip are squeezed.

    Returns:
        (FEATURES,), float32, each about 0 to 1: for each rule the panels it finds and how they look,
        the strongest seams across the whole figure, the colours, and the shape.
    """
    down, across = _measure(pixels)
    rules = [_cut_features(cut_panels(down, across, rule)) for rule in RULES]
    seams = [_strongest(lines) for lines in (down, across)]
    longer = float(np.clip(np.log2(aspect) / 3, -1, 1))
    tones = _tones(pixels, down, across)
    return np.concatenate([*rules, *seams, tones, (longer, abs(longer))]).astype(np.float32)


def count_panels(pixels: np.ndarray, rule: Rule) -> int:
    """Panels that one rule finds in (SIDE, SIDE, 3) uint8 pixels, at most about MOST_PANELS."""
    return len(cut_panels(*_measure(pixels), rule).panels)


def _measure(pixels: np.ndarray) -> tuple[_Lines, _Lines]:
    """The maps for vertical lines, and for horizontal ones."""
    wide = pixels.astype(np.uint16)
    grey = ((wide[..., 0] * 77 + wide[..., 1] * 150 + wide[..., 2] * 29) >> 8).astype(np.uint8)
    return _lines(grey), _lines(np.ascontiguousarray(grey.T))


def _lines(grey: np.ndarray) -> _Lines:
    step = _distance(grey[:, 1:], grey[:, :-1])
    highest = step.copy()
    for shift in range(1, _REACH + 1):
        np.maximum(highest[:, shift:], step[:, :-shift], out=highest[:, shift:])
        np.maximum(highest[:, :-shift], step[:, shift:], out=highest[:, :-shift])
    votes = (step == highest) & (step >= _FLOOR)
    # A seam between two pixels splits its votes among two edges.
    votes[:, :-1] |= votes[:, 1:]
    along = _distance(grey[1:], grey[:-1])
    return _Lines(_summed(votes), {level: _summed(along <= level) for level in _LEVELS})


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.maximum(first, second) - np.minimum(first, second)


def _summed(mask: np.ndarray) -> np.ndarray:
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1]), np.int16)
    np.cumsum(mask, axis=0, dtype=np.int16, out=sums[1:])
    return sums


def cut_panels(down: _Lines, across: _Lines, rule: Rule) -> Cut:
    """Cut the whole figure by one rule, the direction with the stronger separators first."""
    cut = Cut()
    todo: list[tuple[Rectangle, int]] = [((0, SIDE, 0, SIDE), 0)]
    while todo:
        rectangle, depth = todo.pop()
        top, bottom, left, right = rectangle
        if _is_blank(down, across, rectangle):
            cut.blanks += 1
            continue
        parts: list[Rectangle] = []
        if depth < _DEEPEST and len(cut.panels) + len(todo) < MOST_PANELS:
            columns, upright = _separate(down, rule, top, bottom, left, right)
            rows, level = _separate(across, rule, left, right, top, bottom)
            if len(columns) > 1 and (len(rows) < 2 or min(upright) >= min(level)):
                parts = [(top, bottom, low, high) for low, high in columns]
                cut.strengths += upright
            elif len(rows) > 1:
                parts = [(low, high, left, right) for low, high in rows]
                cut.strengths += level
        if parts:
            todo += [(part, depth + 1) for part in parts]
        else:
            cut.panels.append(rectangle)
    return cut


def _separate(
    lines: _Lines, rule: Rule, start: int, stop: int, low: int, high: int
) -> tuple[list[tuple[int, int]], list[float]]:
    """The parts of low..high between separators that run from start to stop, and their strengths."""
    if high - low < 2 * _SMALLEST or stop - start < _SMALLEST:
        return [(low, high)], []
    shares = lines.edge_shares(start, stop, low, high)
    parting = np.zeros(high - low, bool)
    if rule.seam <= 1:
        parting[:-1] = shares >= rule.seam
    if rule.empty:
        empty = lines.empty_shares(rule.empty, start, stop, low, high) >= _EMPTY_SHARE
        parting |= _bounded(empty, shares, rule.bounded) if rule.bounded else empty
    edges = np.flatnonzero(np.diff(np.concatenate(([True], parting, [True])).astype(np.int8)))
    spans = [(low + int(a), low + int(b)) for a, b in edges.reshape(-1, 2) if b - a >= _SMALLEST]
    if len(spans) < 2:
        return [(low, high)], []
    strengths = [
        float(shares[max(0, a[1] - low - 2) : b[0] - low + 2].max()) for a, b in pairwise(spans)
    ]
    return spans, strengths


def _bounded(empty: np.ndarray, shares: np.ndarray, least: float) -> np.ndarray:
    """The runs of empty lines that end at an edge on one side at least."""
    near = np.zeros(len(empty) + 4, bool)
    for shift in range(4):
        near[shift : shift + len(shares)] |= shares >= least
    near = near[1 : 1 + len(empty)]
    starts = np.flatnonzero(empty & ~np.concatenate(([False], empty[:-1])))
    if not len(starts):
        return empty
    ends = np.flatnonzero(empty & ~np.concatenate((empty[1:], [False])))
    kept = np.zeros(len(empty) + 1, np.int8)
    held = near[starts] | near[ends]
    kept[starts[held]] += 1
    kept[ends[held] + 1] -= 1
    return np.cumsum(kept[:-1]).astype(bool)


def _is_blank(down: _Lines, across: _Lines, rectangle: Rectangle) -> bool:
    top, bottom, left, right = rectangle
    level = _LEVELS[0]
    upright = down.empty_shares(level, top, bottom, left, right)
    flat = across.empty_shares(level, left, right, top, bottom)
    return bool(min(upright.mean(), flat.mean()) >= _BLANK_SHARE)


def _cut_features(cut: Cut) -> list[float]:
    count = len(cut.panels)
    areas = np.array([(b - t) * (r - x) for t, b, x, r in cut.panels] or [0]) / SIDE**2
    sides = [min(b - t, r - x) for t, b, x, r in cut.panels] or [0]
    alike = areas.sum() / max(float(np.median(areas)), SIDE**-1)  # panels, if all were of one size
    return [
        np.log1p(min(count, MOST_PANELS)) / 4,
        min(max((count - 6.5) / 3, -1.0), 1.0),
        float(count > 6),
        np.log1p(min(alike, MOST_PANELS)) / 4,
        min(max((alike - 6.5) / 3, -1.0), 1.0),
        float(areas.sum()),
        float(areas.std() / max(areas.mean(), 1e-6)) / 2,
        float(np.median(sides)) / SIDE,
        min(cut.strengths, default=0.0),
        float(np.mean(cut.strengths)) if cut.strengths else 0.0,
    ]


def _strongest(lines: _Lines) -> np.ndarray:
    """The strongest seams over the whole length, no two closer than a panel, and empty lines."""
    shares = lines.edge_shares(0, SIDE, 0, SIDE)
    shares[:_MARGIN] = shares[-_MARGIN:] = 0
    blocks = np.pad(shares, (0, -len(shares) % _SMALLEST)).reshape(-1, _SMALLEST).max(axis=1)
    level = _LEVELS[-1]
    empty = lines.empty_shares(level, 0, SIDE, 0, SIDE)
    runs = np.pad(empty, (0, -len(empty) % _SMALLEST)).reshape(-1, _SMALLEST).max(axis=1)
    return np.concatenate((np.sort(blocks)[::-1][:_SEAMS], np.sort(runs)[::-1][:_SEAMS]))


def _tones(pixels: np.ndarray, down: _Lines, across: _Lines) -> list[float]:
    """Colours and flatness: what is drawn has few colours and much of one."""
    small = pixels[::2, ::2]
    brightest, darkest = small.max(axis=2), small.min(axis=2)
    coarse = small.astype(np.uint16) >> 4
    colours = np.bincount((coarse[..., 0] << 8 | coarse[..., 1] << 4 | coarse[..., 2]).ravel())
    shares = np.sort(colours[colours > 0])[::-1] / brightest.size
    chroma = (brightest - darkest).astype(np.float32) / 255
    flat = [
        summed[-1].astype(np.float32) / (SIDE - 1)
        for lines in (down, across)
        for summed in (lines.empty[_LEVELS[0]],)
    ]
    return [
        float((darkest >= 245).mean()),
        float((brightest <= 10).mean()),
        float(shares[0]),
        float(shares[:4].sum()),
        float(-(shares * np.log(shares)).sum()) / 8,
        len(shares) / 1000,
        float(chroma.mean()),
        float(chroma.std()),
        float((chroma > 0.2).mean()),
        *(float(each.mean()) for each in flat),
        *(float((each > _EMPTY_SHARE).mean()) for each in flat),
    ]
