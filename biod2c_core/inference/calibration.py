"""From a model's confidence to the share of such answers that are right, fitted on held-out records.

Yes and no are calibrated apart from other answers. Both take two numbers, the probability of the answer
and the familiarity of the picture, to one, from which a rising function leads to the share of right
answers; so the result rises with either. Kept in the checkpoint's folder as ``calibration.json`` and used
only with the weights that it was fitted for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.foreign import read_json
from biod2c_core.inference.questions import UNLIKE

FILE = "calibration.json"
Method = Literal["temperature", "isotonic"]
METHODS: tuple[Method, ...] = ("temperature", "isotonic")
LEAST_RECORDS = 20
_BINS = 10
_LEAST_FAMILIARITY = 0.001  # what less than this means cannot be told from a thousand pictures
_WEIGHTS = (0.0, *(round(0.05 * 1.5**step, 3) for step in range(12)))  # of unfamiliarity, to 4.3


@dataclass(frozen=True)
class Curve:
    """A rising function from confidence, and from familiarity, to probability.

    Attributes:
        method: ``temperature``: sigmoid(logit(c) / T); ``isotonic``: straight lines between points.
        temperature: T, for ``temperature``.
        points: (confidence, probability), both rising, for ``isotonic``.
        familiarity_weight: What one unit of unfamiliarity, -ln(familiarity), takes from logit(c) first; 0
            leaves familiarity out.
        familiar_from: The least familiarity that enough answers were there to fit on.
        guess: The probability that an answer is right of which nothing is known: 0.5 for yes or no.
        records: How many answers it was fitted on.
    """

    method: Method
    temperature: float = 1.0
    points: tuple[tuple[float, float], ...] = ()
    familiarity_weight: float = 0.0
    familiar_from: float = UNLIKE
    guess: float = 0.0
    records: int = 0

    def __call__(self, confidence: float, familiarity: float | None = None) -> float:
        """The probability that an answer is right, in [0, 1].

        Of pictures less familiar than those that it was fitted on nothing is known: there it falls with the
        familiarity, to that of a guess.

        Args:
            confidence: The probability that the model gives to the answer.
            familiarity: Of the picture; None takes it for the most familiar one.
        """
        if familiarity is None:
            return round(self._rise(confidence), 4)
        fitted = max(familiarity, self.familiar_from)
        known = self._rise(discounted(confidence, fitted, self.familiarity_weight))
        if familiarity < fitted:
            least = min(self.guess, known)
            known = least + (known - least) * familiarity / fitted
        return round(known, 4)

    def _rise(self, confidence: float) -> float:
        if self.method == "temperature":
            return _sigmoid(_logit(confidence) / self.temperature)
        x, y = zip(*self.points, strict=True)
        return float(np.interp(confidence, x, y))

    def holds(self, familiarity: float | None) -> bool:
        """Whether it was fitted on answers about pictures of this familiarity."""
        if familiarity is None:
            return self.familiarity_weight == 0
        return familiarity >= self.familiar_from


@dataclass(frozen=True)
class Calibration:
    """What a checkpoint's confidences are worth.

    Attributes:
        yes_no: For the answers yes and no.
        other: For all others.
    """

    yes_no: Curve
    other: Curve

    def curve(self, answer: str) -> Curve:
        """The one for an answer."""
        return self.yes_no if is_yes_no(answer) else self.other

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def is_yes_no(answer: str) -> bool:
    """Whether an answer is yes or no, apart from case and punctuation."""
    return answer.strip(" .!,").lower() in ("yes", "no")


def discounted(confidence: float, familiarity: float, weight: float) -> float:
    """A confidence, less for an unfamiliar picture.

    Args:
        confidence: In [0, 1].
        familiarity: In [0, 1].
        weight: Not negative; 0 changes nothing.
    """
    if weight == 0:
        return confidence
    unfamiliarity = -math.log(max(familiarity, _LEAST_FAMILIARITY))
    return _sigmoid(_logit(confidence) - weight * unfamiliarity)


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def fit(
    confidences: Sequence[float],
    right: Sequence[bool],
    method: Method,
    familiarities: Sequence[float] | None = None,
) -> Curve:
    """Fit a curve.

    The weight of familiarity is the one under which the fitted curve finds the answers likeliest; the
    least of these where several do.

    Args:
        confidences: Of answers, in [0, 1].
        right: Whether each is right.
        method: See :class:`Curve`.
        familiarities: Of their pictures; None leaves familiarity out.

    Raises:
        InputError: There are too few answers.
    """
    if len(confidences) < LEAST_RECORDS:
        raise InputError(
            f"{len(confidences)} answers are too few to calibrate on",
            f"Give at least {LEAST_RECORDS} held-out records with answers.",
        )
    count = len(confidences)
    if familiarities is None:
        return replace(_fit(confidences, right, method), records=count)
    fitted = []
    for weight in _WEIGHTS:
        less = [discounted(c, f, weight) for c, f in zip(confidences, familiarities, strict=True)]
        curve = replace(_fit(less, right, method), familiarity_weight=weight)
        fitted.append((round(_loss([curve._rise(c) for c in less], right), 6), weight, curve))
    best = min(fitted, key=lambda each: each[:2])[2]
    return replace(best, records=count, familiar_from=sorted(familiarities)[LEAST_RECORDS - 1])


def _fit(confidences: Sequence[float], right: Sequence[bool], method: Method) -> Curve:
    if method == "temperature":
        return Curve("temperature", temperature=_fit_temperature(confidences, right))
    return Curve("isotonic", points=_fit_isotonic(confidences, right))


def _loss(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Mean negative log-likelihood."""
    p = np.clip(np.array(probabilities), 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(np.array(right), p, 1 - p)).mean())


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


@dataclass(frozen=True)
class Answered:
    """An answer to a held-out record, and whether it is right.

    Attributes:
        image: What it is about.
        source: Where the image comes from; empty where that is not known.
        text: The answer.
        confidence: The probability that the model gives to it.
        familiarity: Of the image; None where the checkpoint has no reference.
        right: Whether it equals the gold answer.
    """

    image: str
    source: str
    text: str
    confidence: float
    familiarity: float | None
    right: bool


def fit_answers(answers: Sequence[Answered], method: Method) -> Calibration:
    """Fit on answers, yes and no apart from others where there are enough of both.

    Raises:
        InputError: There are too few answers.
    """
    kinds = [[a for a in answers if is_yes_no(a.text) == wanted] for wanted in (True, False)]
    if min(map(len, kinds)) < LEAST_RECORDS:
        kinds = [list(answers)] * 2
    yes_no, other = (_fit_kind(kind, method) for kind in kinds)
    return Calibration(replace(yes_no, guess=0.5), other)


def _fit_kind(answers: Sequence[Answered], method: Method) -> Curve:
    known = [a.familiarity for a in answers if a.familiarity is not None]
    familiarities = known if len(known) == len(answers) else None
    return fit([a.confidence for a in answers], [a.right for a in answers], method, familiarities)


def cross_fitted(
    answers: Sequence[Answered], method: Method, by_source: bool = False
) -> list[float]:
    """Each answer's calibrated confidence by a fit on the answers about the other half of the images.

    Args:
        answers: At least twice as many as a fit needs.
        method: See :class:`Curve`.
        by_source: Keep the images of a source in one half, where there are sources enough.

    Raises:
        InputError: There are too few answers in a half.
    """
    half = _halves([answer.source for answer in answers]) if by_source else None
    half = (
        half
        or _halves([answer.image for answer in answers])
        or [i % 2 for i in range(len(answers))]
    )
    parts = [[a for a, h in zip(answers, half, strict=True) if h != own] for own in (0, 1)]
    fits = [fit_answers(part, method) for part in parts]
    return [
        fits[h].curve(a.text)(a.confidence, a.familiarity)
        for a, h in zip(answers, half, strict=True)
    ]


def _halves(names: Sequence[str]) -> list[int] | None:
    """0 or 1 for each, the same for the same name; None where a half would be too small to fit on."""
    counts = Counter(names)
    sizes, half = [0, 0], {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        half[name] = int(sizes[1] < sizes[0])
        sizes[half[name]] += counts[name]
    return [half[name] for name in names] if min(sizes) >= LEAST_RECORDS else None


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
        if "yes_no" in value:
            return Calibration(_curve(value["yes_no"]), _curve(value["other"]))
        curve = _curve(value)  # of a version before 1.1, which knew neither kinds nor familiarity
        return Calibration(curve, curve)
    except (KeyError, TypeError, ValueError, StopIteration, ArithmeticError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__})", "Run 'biod2c calibrate' again."
        ) from error


def _curve(value: Any) -> Curve:
    """A curve of a file.

    Raises:
        KeyError: A field is missing.
        ValueError: It does not rise from and to numbers in [0, 1].
    """
    method = next(name for name in METHODS if name == value["method"])
    points = tuple((float(x), float(y)) for x, y in value["points"])
    weight = float(value.get("familiarity_weight", 0))
    curve = Curve(
        method,
        float(value["temperature"]),
        points,
        weight,
        float(value.get("familiar_from", UNLIKE)),
        float(value.get("guess", 0)),
        int(value.get("records", 0)),
    )
    probabilities = [curve(step / 10, UNLIKE) for step in range(11)]
    rising = probabilities == sorted(probabilities) and points == tuple(sorted(points))
    bounded = 0 <= probabilities[0] <= probabilities[-1] <= 1 and 0 <= weight < math.inf
    if not (rising and bounded and 0 <= curve.familiar_from <= 1 and 0 <= curve.guess <= 1):
        raise ValueError("not a rising function")
    return curve
