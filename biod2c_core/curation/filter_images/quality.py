"""How good a classifier is: confusion, precision, recall, F1, calibration, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from biod2c_core.atomic import atomic_open
from biod2c_core.curation.filter_images.sources import Item, read_image
from biod2c_core.errors import ImageError

BINS = 10
_COLUMNS, _CELL, _CAPTION = 6, 200, 30
_MOST_SHOWN = 48


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose probability lies in one tenth.

    Attributes:
        low: Where the tenth begins.
        images: How many.
        predicted: Their mean probability of being polluted.
        observed: The share that is polluted.
    """

    low: float
    images: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Quality:
    """Agreement of probabilities with labels; "positive" is polluted.

    Attributes:
        images: How many were judged.
        true_positive: Polluted ones found.
        false_positive: Clean ones taken for polluted.
        false_negative: Polluted ones missed.
        true_negative: Clean ones kept.
        precision: Of what is called polluted, the share that is.
        recall: Of what is polluted, the share that is found.
        f1: Harmonic mean of the two.
        f1_clean: The same with clean as positive.
        calibration_error: Mean distance of predicted and observed share over the bins, weighted by
            images.
        brier: Mean squared distance of probability and label.
        bins: What the calibration is made of; empty bins are left out.
    """

    images: int
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    precision: float
    recall: float
    f1: float
    f1_clean: float
    calibration_error: float
    brier: float
    bins: tuple[CalibrationBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def measure_quality(probabilities: np.ndarray, polluted: np.ndarray, threshold: float) -> Quality:
    """Compare probabilities with labels.

    Args:
        probabilities: (N,), of being polluted.
        polluted: (N,), bool.
        threshold: From here on an image is called polluted.
    """
    called = probabilities >= threshold
    tp, fp = int((called & polluted).sum()), int((called & ~polluted).sum())
    fn, tn = int((~called & polluted).sum()), int((~called & ~polluted).sum())
    bins = tuple(_bins(probabilities, polluted))
    error = sum(each.images * abs(each.predicted - each.observed) for each in bins)
    return Quality(
        images=len(polluted),
        true_positive=tp,
        false_positive=fp,
        false_negative=fn,
        true_negative=tn,
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        f1=_share(2 * tp, 2 * tp + fp + fn),
        f1_clean=_share(2 * tn, 2 * tn + fp + fn),
        calibration_error=error / max(1, len(polluted)),
        brier=float(np.mean((probabilities - polluted) ** 2)) if len(polluted) else 0.0,
        bins=bins,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _bins(probabilities: np.ndarray, polluted: np.ndarray) -> list[CalibrationBin]:
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    found = []
    for index in range(BINS):
        inside = place == index
        if inside.any():
            predicted, observed = probabilities[inside].mean(), polluted[inside].mean()
            found.append(
                CalibrationBin(index / BINS, int(inside.sum()), float(predicted), float(observed))
            )
    return found


def draw_mistakes(
    path: Path,
    items: Sequence[Item],
    probabilities: np.ndarray,
    polluted: np.ndarray,
    threshold: float,
) -> int:
    """Draw the most confident mistakes as a contact sheet (PNG), the worst first.

    Args:
        path: The PNG to write.
        items: N images.
        probabilities: (N,), of being polluted.
        polluted: (N,), bool.
        threshold: From here on an image is called polluted.

    Returns:
        How many mistakes there are; the sheet shows at most 48.
    """
    wrong = np.flatnonzero((probabilities >= threshold) != polluted)
    distance = np.abs(probabilities - polluted)
    worst = wrong[np.argsort(-distance[wrong], kind="stable")][:_MOST_SHOWN]
    rows = max(1, -(-len(worst) // _COLUMNS))
    sheet = Image.new("RGB", (_COLUMNS * _CELL, rows * (_CELL + _CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    if not len(worst):
        draw.text((8, 8), "no mistakes", fill="black", font=font)
    for place, index in enumerate(worst.tolist()):
        left, top = place % _COLUMNS * _CELL, place // _COLUMNS * (_CELL + _CAPTION)
        sheet.paste(_thumbnail(items[index]), (left + 3, top + _CAPTION))
        label = "polluted" if polluted[index] else "clean"
        texts = (f"is {label}, p = {probabilities[index]:.3f}", Path(items[index].name).name[-32:])
        for line, text in enumerate(texts):
            draw.text((left + 3, top + 1 + 14 * line), text, fill="black", font=font)
    with atomic_open(path, "wb") as file:
        sheet.save(file, "PNG")
    return len(wrong)


def _thumbnail(item: Item) -> Image.Image:
    try:
        picture = read_image(item)
    except ImageError:  # it has gone since it was judged
        return Image.new("RGB", (_CELL // 2, _CELL // 2), "#ffdddd")
    picture.thumbnail((_CELL - 6, _CELL - 6))
    return picture
