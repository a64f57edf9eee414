"""How much longer MultiMedEval's own code takes for the numbers of its profile.

    pip download --no-deps multimedeval==1.0.0 && unzip multimedeval-*.whl -d /tmp/multimedeval
    pip install --no-deps --target /tmp/multimedeval torchmetrics==1.9.0 lightning-utilities
    PYTHONPATH=.:/tmp/multimedeval python benchmarks/multimedeval_speed.py [QUESTIONS]

The answers are those of ``score_all.py``. The package's ``VQA.evaluate`` runs as published, with stand-ins
for what plays no part in its score; ours gives the same columns. The numbers must agree first. Then both
are timed in turn by the processor's clock: ours for the same columns, for them with intervals by 2,000
bootstrap draws, which the package has not, and by every convention at once, with intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from score_all import make

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.profiles import Profile, get_profile, rule_profiles
from biod2c_core.evaluation.score.score_all import AllScores, score_all
from biod2c_core.evaluation.statistics.intervals import Estimate, matrix_intervals

TESTS = Path(__file__).resolve().parents[1] / "tests" / "core" / "evaluation"
sys.path[:0] = [str(Path(__file__).parent), str(TESTS / "expected"), str(TESTS)]
COLUMNS = {
    "bleu": "bleu_1",
    "F1": "token_f1",
    "recall": "token_recall",
    "closedQuestionsAccuracy": "closed_accuracy",
    "openQuestionsRecall": "open_recall",
    "openQuestionsAccuracy": "open_accuracy",
}
REPEAT = 3


def with_intervals(
    records: Sequence[Record], predictions: Mapping[str, Prediction], profiles: Sequence[Profile]
) -> tuple[AllScores, list[Estimate]]:
    """Scores and intervals."""
    scores = score_all(records, predictions, profiles)
    return scores, matrix_intervals(records, scores.values)


def main() -> None:
    """Check, time, print."""
    for name in ("requests", "pandas", "datasets"):
        with suppress(ImportError):  # before the stand-ins, which their own searches would find
            import_module(name)
    from alternating import compare
    from make_multimedeval import import_task_families, original_scores

    questions = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    records, predictions = make(questions)
    one = [get_profile("multimedeval")]
    families = import_task_families()
    golds = [record.answer for record in records]
    texts = [predictions[record.id].answer for record in records]

    def theirs() -> dict[str, Any]:
        return original_scores(families, golds, texts)

    def alone() -> AllScores:
        return score_all(records, predictions, one)

    ratio, scores, expected = compare(alone, theirs, REPEAT)
    for name, key in COLUMNS.items():
        found = np.nanmean(scores.values[:, [m.key for m in one[0].metrics].index(key)])
        assert abs(found - float(expected[name])) < 1e-9, (name, found, expected[name])
    print(f"{questions} questions, MultiMedEval's time for its columns as a multiple of ours:")
    print(f"the same columns {ratio:.1f}")
    for label, profiles in (("with intervals", one), ("all conventions", rule_profiles())):
        ratio, _, _ = compare(
            partial(with_intervals, records, predictions, profiles), theirs, REPEAT
        )
        print(f"{label} {ratio:.2f}")


if __name__ == "__main__":
    main()
