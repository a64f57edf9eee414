"""From a model's confidence to the share of such answers that are right, fitted on held-out records.

Kept in the checkpoint's folder as ``calibration.json`` and used only with the weights that it was
fitted for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biod2c_core.atomic import write_json
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.foreign import read_json

if TYPE_CHECKING:
    from biod2c_core.data.records import Record
    from biod2c_core.model.generation import Answerer

FILE = "calibration.json"
Method = Literal["temperature", "isotonic"]
METHODS: tuple[Method, ...] = ("temperature", "isotonic")
LEAST_RECORDS = 20
_BATCH = 32
_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A rising function from confidence to probability.

    Attributes:
        method: ``temperature``: sigmoid(logit(c) / T); ``isotonic``: straight lines between points.
        temperature: T, for ``temperature``.
        points: (confidence, probability), both rising, for ``isotonic``.
    """

    method: Method
    temperature: float = 1.0
    points: tuple[tuple[float, float], ...] = ()

    def __call__(self, confidence: float) -> float:
        """The probability that an answer of this confidence is right, in [0, 1]."""
        if self.method == "temperature":
            return round(_sigmoid(_logit(confidence) / self.temperature), 4)
        x, y = zip(*self.points, strict=True)
        return round(float(np.interp(confidence, x, y)), 4)


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def fit(confidences: Sequence[float], right: Sequence[bool], method: Method) -> Calibration:
    """Fit a calibration.

    Args:
        confidences: Of answers, in [0, 1].
        right: Whether each is right.
        method: See :class:`Calibration`.

    Raises:
        InputError: There are too few answers.
    """
    if len(confidences) < LEAST_RECORDS:
        raise InputError(
            f"{len(confidences)} answers are too few to calibrate on",
            f"Give at least {LEAST_RECORDS} held-out records with answers.",
        )
    if method == "temperature":
        return Calibration("temperature", temperature=_fit_temperature(confidences, right))
    return Calibration("isotonic", points=_fit_isotonic(confidences, right))


def _fit_temperature(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """The T of least negative log-likelihood, by golden-section search over log T."""
    logits = np.array([_logit(c) for c in confidences])
    signs = np.where(np.array(right), 1.0, -1.0)

    def loss(log_t: float) -> float:
        return float(np.logaddexp(0, -signs * logits / math.exp(log_t)).mean())

    low, high, golden = -4.0, 4.0, (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right_ = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right_) if loss(left) <= loss(right_) else (left, high)
    return round(math.exp((low + high) / 2), 6)


def _fit_isotonic(
    confidences: Sequence[float], right: Sequence[bool]
) -> tuple[tuple[float, float], ...]:
    """Pool adjacent violators; a point at the mean confidence of each block.

    No block is surer than its number of answers allows: values stay off 0 and 1 by 1 / (n + 2).
    Below the first block the line goes to that at confidence 0: held-out answers, each the model's
    first choice, show nothing about such as it hardly considers.
    """
    blocks: list[list[float]] = []  # sum of confidences, number right, number
    ordered = sorted(zip(confidences, right, strict=True))
    for confidence, ties in groupby(ordered, key=lambda pair: pair[0]):
        same = [float(is_right) for _, is_right in ties]
        blocks.append([confidence * len(same), sum(same), float(len(same))])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] >= blocks[-1][1] * blocks[-2][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    least = 1 / (len(confidences) + 2)
    points = [
        (float(f"{total / count:.6g}"), round(min(max(good / count, least), 1 - least), 6))
        for total, good, count in blocks
    ]
    return tuple(points if points[0][0] == 0 else [(0.0, round(least, 6)), *points])


def expected_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error over ten bins of equal width."""
    values, good = np.array(confidences), np.array(right, float)
    bins = np.minimum((values * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(values[bins == b].sum() - good[bins == b].sum())
        for b in range(_BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps) / len(values))


def cross_fitted(
    confidences: Sequence[float], right: Sequence[bool], method: Method
) -> list[float]:
    """Each answer's calibrated confidence by a fit on the other half of the answers."""
    calibrated = [0.0] * len(confidences)
    for half in (0, 1):
        others = [i for i in range(len(confidences)) if i % 2 != half]
        part = fit([confidences[i] for i in others], [right[i] for i in others], method)
        for i in range(half, len(confidences), 2):
            calibrated[i] = part(confidences[i])
    return calibrated


def calibrate(
    records: Sequence[Record],
    root: Path,
    checkpoint: str | None,
    device: str,
    method: str,
    same_answer: Callable[[str, str], bool],
) -> dict[str, Any]:
    """Answer held-out records, fit, and write ``calibration.json`` into the checkpoint's folder.

    Args:
        records: With gold answers; not those the model was trained on.
        root: The image root.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu`` ...
        method: One of ``METHODS``.
        same_answer: Whether a given answer equals the gold one.

    Returns:
        What was written: the fit, the number of records, and the expected calibration error
        before and after (each half by the fit on the other).

    Raises:
        InputError: The method is unknown, records are too few, or an image cannot be read.
    """
    chosen = next((name for name in METHODS if name == method), None)
    if chosen is None:
        raise InputError(f"unknown method {method!r}", f"Use one of: {', '.join(METHODS)}.")
    usable = [record for record in records if record.answer.strip()]
    if len(usable) < 2 * LEAST_RECORDS:
        raise InputError(
            f"{len(usable)} records with answers are too few to calibrate on",
            f"Give at least {2 * LEAST_RECORDS}.",
        )
    from biod2c_core.model.checkpoints.folder import locate
    from biod2c_core.model.generation import Answerer

    answerer = Answerer.load(checkpoint, device)
    confidences, right = [], []
    for record, text, confidence in _answers(answerer, usable, root):
        confidences.append(confidence)
        right.append(same_answer(record.answer, text))
    fitted = fit(confidences, right, chosen)
    after = cross_fitted(confidences, right, chosen)
    written = {
        **asdict(fitted),
        "weights": answerer.identity,
        "records": len(usable),
        "accuracy": round(sum(right) / len(right), 4),
        "error_before": round(expected_error(confidences, right), 4),
        "error_after": round(expected_error(after, right), 4),
    }
    write_json(locate(checkpoint) / FILE, written)
    return written


def _answers(
    answerer: Answerer, records: Sequence[Record], root: Path
) -> Iterator[tuple[Record, str, float]]:
    """Answer in batches; questions about one image share its encoding."""
    from biod2c_core.data.images import load_image

    ordered = sorted(records, key=lambda record: record.image)
    for start in range(0, len(ordered), _BATCH):
        batch = ordered[start : start + _BATCH]
        names = sorted({record.image for record in batch})
        images = [load_image(name, root=root) for name in names]
        asked = [(names.index(record.image), record.question) for record in batch]
        for record, answer in zip(batch, answerer.answer_images(images, asked), strict=True):
            yield record, answer.text, answer.confidence


def load_calibration(folder: Path, identity: str) -> Calibration | None:
    """The calibration of a checkpoint; None where there is none for these weights.

    Args:
        folder: Of the checkpoint.
        identity: :func:`biod2c_core.model.checkpoints.folder.fingerprint` of it.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        if value["weights"] != identity:
            return None
        points = tuple((float(x), float(y)) for x, y in value["points"])
        method = next(name for name in METHODS if name == value["method"])
        calibration = Calibration(method, float(value["temperature"]), points)
        calibration(0.5)
    except (KeyError, TypeError, ValueError, StopIteration, ArithmeticError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__})", "Run 'biod2c calibrate' again."
        ) from error
    return calibration
