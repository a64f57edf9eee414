"""How long scoring by every convention at once takes.

    python benchmarks/score_all.py [QUESTIONS]

Made-up records (four fifths yes/no and open questions, one fifth multiple choice; an image each) with
made-up answers, four fifths of them different from each other. The values of a sample must equal those of
one profile at a time first; then all profiles that need no judge, and 2,000 bootstrap draws of all
columns, are timed by the processor's clock on one thread, and the most memory held is printed.
"""

from __future__ import annotations

import random
import resource
import sys
import time

import numpy as np

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.profiles import rule_profiles
from biod2c_core.evaluation.score.score import score
from biod2c_core.evaluation.score.score_all import score_all
from biod2c_core.evaluation.statistics.intervals import matrix_intervals

WORDS = (
    *("left", "right", "upper", "lower", "lobe", "of", "the", "lung", "liver", "kidney", "chest"),
    *("x-ray", "ct", "mri", "axial", "plane", "mass", "effusion", "no", "evidence", "is", "normal"),
)
LABELS = 400
SAMPLE = 200


def make(questions: int) -> tuple[list[Record], dict[str, Prediction]]:
    """Records and predictions."""
    generator = random.Random(0)

    def words(most: int) -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(1, most)))

    labels = [words(4) for _ in range(LABELS)]
    records, predictions = [], {}
    for number in range(questions):
        closed = generator.random() < 0.5
        gold = generator.choice(["yes", "no"]) if closed else generator.choice(labels)
        tags = {}
        if number % 5 == 0:
            choices = generator.sample(labels, 4)
            gold, closed = choices[0], True
            tags = {f"choice_{letter}": t for letter, t in zip("abcd", choices, strict=True)}
        said = gold if generator.random() < 0.2 else f"{gold} {words(6)} {number}"
        kind = "CLOSED" if closed else "OPEN"
        record = Record(str(number), f"{number}.png", "?", gold, answer_type=kind, tags=tags)
        records.append(record)
        predictions[record.id] = Prediction(record.id, said)
    return records, predictions


def check(records: list[Record], predictions: dict[str, Prediction]) -> None:
    """All at once must give what each gives."""
    sample = records[:SAMPLE]
    known = {record.id: predictions[record.id] for record in sample}
    everything = score_all(sample, known, rule_profiles())
    for profile in rule_profiles():
        alone = score(sample, known, profile)
        found = everything.values[:, everything.columns_of(profile)]
        for row, question in zip(found, alone.questions, strict=True):
            expected = [question.values.get(metric.key, np.nan) for metric in profile.metrics]
            assert np.array_equal(row, expected, equal_nan=True), profile.name


def main() -> None:
    """Check, time, print."""
    questions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    records, predictions = make(questions)
    check(records, predictions)
    start = time.process_time()
    scores = score_all(records, predictions, rule_profiles())
    scored = time.process_time()
    matrix_intervals(scores.records, scores.values)
    end = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{questions} questions, {len(scores.profiles)} profiles, {scores.values.shape[1]} columns"
    )
    print(f"scores {scored - start:.1f} s, intervals {end - scored:.1f} s, memory {memory:.0f} MB")


if __name__ == "__main__":
    main()
