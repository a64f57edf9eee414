"""Everything asked several times: how much a score and an answer move from one time to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biod2c_core.evaluation.predict.asking import Asking, Sampling
from biod2c_core.evaluation.probes.again import AskAgain, beside
from biod2c_core.evaluation.score.profiles.open_ended.lmms_slake import normalize
from biod2c_core.evaluation.score.score import Evaluation, ScoredQuestion, score
from biod2c_core.evaluation.statistics.intervals import Estimate, intervals


@dataclass(frozen=True)
class Spread:
    """One column over the repetitions.

    Attributes:
        mean: Of all repetitions, with the interval over images.
        deviation: Standard deviation of the repetitions' values (n - 1).
        values: Of each repetition.
    """

    mean: Estimate
    deviation: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Repeats:
    """What several repetitions of every question come to.

    Attributes:
        repetitions: How many.
        temperature: At which answers were drawn; 0 for the likeliest.
        columns: Column to spread; those that apply to no question are left out.
        same: Share of questions with the same answer every time.
        always: Share of questions that are right every time.
        ever: Share of questions that are right at least once.
    """

    repetitions: int
    temperature: float
    columns: dict[str, Spread]
    same: Estimate
    always: Estimate
    ever: Estimate

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)


def ask_repeatedly(
    evaluation: Evaluation, path: Path, ask: AskAgain, usual: Asking, count: int
) -> Repeats:
    """Ask every question again, until each was asked so often.

    Killed at any moment and started again, no question is asked twice in a repetition.

    Args:
        evaluation: The first repetition.
        path: Its predictions file; those of the others go beside it.
        ask: The same model.
        usual: How it was asked.
        count: Repetitions in all, the first included.
    """
    temperature = usual.sampling.temperature if usual.sampling else 0.0
    passes = [evaluation]
    for number in range(2, count + 1):
        second = beside(path, f"repeat-{number}")
        answers = ask(None, second, asking=replace(usual, sampling=Sampling(temperature, number)))
        passes.append(score(evaluation.records, answers, evaluation.profile, second))
    return summarize_repeats(passes, temperature)


def summarize_repeats(passes: Sequence[Evaluation], temperature: float) -> Repeats:
    """Means, spread, and how often an answer is the same or right.

    Args:
        passes: At least two results on the same records by the same profile.
        temperature: At which they were drawn.
    """
    first = passes[0]
    together, agreement = [], []
    for asked in zip(*(each.questions for each in passes), strict=True):
        values = {
            key: float(np.mean([question.values[key] for question in asked]))
            for key in asked[0].values
            if all(key in question.values for question in asked)
        }
        together.append(replace(asked[0], values=values))
        agreement.append(replace(asked[0], values=_agreement(asked)))
    means = intervals(together, [metric.key for metric in first.profile.metrics])
    columns = {}
    for key, mean in means.items():
        known = [value for each in passes if (value := each.mean(key).value) is not None]
        if mean.value is not None and len(known) == len(passes):
            columns[key] = Spread(mean, float(np.std(known, ddof=1)), tuple(known))
    return Repeats(
        len(passes), temperature, columns, **intervals(agreement, ["same", "always", "ever"])
    )


def _agreement(asked: Sequence[ScoredQuestion]) -> dict[str, float]:
    found = {"same": float(len({normalize(q.prediction.answer) for q in asked}) == 1)}
    right = [question.correctness for question in asked]
    known = [value for value in right if value is not None]
    if len(known) == len(right):
        found["always"] = float(min(known) == 1)
        found["ever"] = float(max(known) == 1)
    return found
