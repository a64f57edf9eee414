"""Score a trained tiny model and print the tables of this recipe's README.

    python recipes/tiny/report.py tune     MODEL DATA RUN   # choosing: never touches the test split
    python recipes/tiny/report.py official MODEL DATA RUN   # the numbers of a candidate
    python recipes/tiny/report.py disjoint MODEL DATA RUN   # the same, model trained without the test images

Each set is answered twice: with its own images, and with the images shuffled among the questions.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from random import Random
from statistics import mean

from blank import YES_NO

from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.report.published import TABLE_1_METRICS
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.model.generation import Answerer

SHUFFLE_SEED = 0
METRICS = [m for m in get_profile("multimedeval").metrics if m.key in TABLE_1_METRICS.values()]
PER_TASK = 80  # questions of each task of the derived sets
SETS = {
    "tune": ("tune_validation", "validation"),
    "official": ("vqa_rad_test", "heldout"),
    "disjoint": ("vqa_rad_test", "heldout"),
}


def accuracy(questions: list[ScoredQuestion]) -> float:
    """Share of correct answers, closed and open questions together."""
    keys = ("closed_accuracy", "open_accuracy")
    return mean(next(q.values[key] for key in keys if key in q.values) for q in questions)


def sample(data: Path, folder: Path, per_task: int = PER_TASK) -> Path:
    """At most so many questions of each task, the same for every candidate."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in read_records(data):
        groups[record.tags["task"]].append(record)
    random = Random(SHUFFLE_SEED)
    chosen = [
        record
        for task in sorted(groups)
        for record in random.sample(groups[task], min(per_task, len(groups[task])))
    ]
    path = folder / data.name
    write_records(path, chosen)
    return path


def run(
    answerer: Answerer, data: Path, images: Path, folder: Path, shuffled: bool
) -> list[ScoredQuestion]:
    """Answer and score one set."""
    request = Request(
        data=data,
        images=images,
        split=None,
        run=folder / f"{data.stem}{'-shuffled' if shuffled else ''}",
        model=answerer.name,
        shuffle_seed=SHUFFLE_SEED if shuffled else None,
    )
    return list(evaluate(request, lambda *_: answerer).evaluation.questions)


def print_columns(title: str, own: list[ScoredQuestion], other: list[ScoredQuestion]) -> None:
    """The paper's four columns."""
    print(f"\n| {title} | " + " | ".join(metric.label for metric in METRICS) + " |")
    print("|---|" + "---|" * len(METRICS))
    for name, questions in (("own images", own), ("images shuffled", other)):
        values = [[q.values[m.key] for q in questions if m.key in q.values] for m in METRICS]
        print(f"| {name} | " + " | ".join(f"{mean(v):.3f}" if v else "-" for v in values) + " |")


def print_tasks(own: list[ScoredQuestion], other: list[ScoredQuestion]) -> None:
    """Accuracy by task of the derived questions."""
    groups: dict[str, tuple[list[ScoredQuestion], list[ScoredQuestion]]] = defaultdict(
        lambda: ([], [])
    )
    for index, questions in enumerate((own, other)):
        for question in questions:
            groups[question.record.tags["task"]][index].append(question)
    print("\n| task | questions | own images | images shuffled | difference |")
    print("|---|---|---|---|---|")
    for task, (first, second) in sorted(groups.items()):
        a, b = accuracy(first), accuracy(second)
        print(f"| {task} | {len(first)} | {a:.3f} | {b:.3f} | {a - b:+.3f} |")


def print_confidences(own: list[ScoredQuestion], blank: list[ScoredQuestion]) -> None:
    """Mean confidences, before any calibration."""
    print("\n| mean confidence | yes/no questions | other questions | all |")
    print("|---|---|---|---|")
    for name, questions in (("own images", own), ("blank images", blank)):
        values = [q.prediction.confidence or 0.0 for q in questions]
        closed = [q.record.answer in YES_NO for q in questions]
        groups = (
            [v for v, c in zip(values, closed, strict=True) if c],
            [v for v, c in zip(values, closed, strict=True) if not c],
            values,
        )
        print(f"| {name} | " + " | ".join(f"{mean(group):.3f}" for group in groups) + " |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=SETS)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    answerer = Answerer.load(given.model)
    for name in SETS[given.what]:
        path = given.data / f"{name}.jsonl"
        by_task = name in ("heldout", "validation")
        if by_task:
            path = sample(path, given.run)
        own, other = (run(answerer, path, given.data, given.run, each) for each in (False, True))
        print_columns(name, own, other)
        if by_task:
            print_tasks(own, other)
            blank = run(answerer, given.data / "blank.jsonl", given.data, given.run, False)
            print_confidences(own, blank)


if __name__ == "__main__":
    main()
