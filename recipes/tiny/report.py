"""What a trained model answers about sources that training left out, each figure beside shuffled images.

    python recipes/tiny/report.py MODEL DATA RUN [--set development|final]

``development`` is looked at for every choice; ``final`` is scored once, at the end. A table goes to
stdout, everything in numbers to ``RUN/SET.json``. VQA-RAD's official split is asked as well.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from pictures import NO_ARROWS, NOT_MEDICAL
from questions import NAMED, WORDINGS

from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.report.published import TABLE_1_METRICS
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.model.generation import Answerer

SHUFFLE_SEED = 0
MOST = 400  # questions of a task and kind, the same for every candidate
CONSISTENT = 150  # pictures asked in ten wordings, and whether they are a CT and an MRI
DRAWS = 2000
SURE = 0.8
Asked = list[ScoredQuestion]
SLICED, X_RAYS = ("CT", "MRI"), ("X-ray",)


def modality_of(records: Iterable[Record]) -> dict[str, str]:
    """The modality of each picture that is asked for it."""
    return {
        r.tags["base"]: r.answer
        for r in records
        if r.tags["task"] == "modality" and r.answer_type == "OPEN"
    }


def is_open(task: str) -> Callable[[Record], bool]:
    """Whether a record asks an open question of the task."""
    return lambda r: r.tags["task"] == task and r.answer_type == "OPEN" and r.answer != NOT_MEDICAL


def rows_of(records: list[Record], trained: dict[str, set[str]]) -> dict[str, list[Record]]:
    """The rows of the table: name -> its records."""
    kind = modality_of(records)
    organ = [r for r in records if is_open("organ")(r) and r.answer in trained["organ"]]
    arrows = {
        f"{task} on kinds without arrows": [
            r for r in records if r.tags["task"] == task and kind.get(r.tags["base"]) in NO_ARROWS
        ]
        for task in ("arrow_where", "arrow_direction", "arrow_presence")
    }
    yes_no = {
        task: [r for r in records if r.tags["task"] == task and r.answer_type == "CLOSED"]
        for task in (
            "modality",
            "organ",
            "medical",
            "tumour",
            "chest_abnormal",
            "breast_abnormal",
            "malignant",
        )
    }
    return {
        "modality": [r for r in records if is_open("modality")(r)],
        "organ": organ,
        "region of CT": [r for r in organ if kind.get(r.tags["base"]) == "CT"],
        "plane of CT and MRI": [r for r in records if is_open("plane")(r)],
        "view of chest X-rays": [
            r for r in records if is_open("view")(r) and kind.get(r.tags["base"]) in X_RAYS
        ],
        "not medical": [
            r for r in records if r.tags["task"] == "modality" and r.answer == NOT_MEDICAL
        ],
        "skin lesion": [r for r in records if is_open("lesion")(r)],
        "finding": [r for r in records if is_open("finding")(r)],
        **{f"{task}, yes or no": own for task, own in yes_no.items()},
        **arrows,
        **{
            task: [r for r in records if r.tags["task"] == task]
            for task in ("arrow", "quadrant", "count", "side")
        },
    }


def right(question: ScoredQuestion) -> float:
    """1 where the answer is the right one, closed and open questions alike."""
    return next(
        question.values[k] for k in ("closed_accuracy", "open_accuracy") if k in question.values
    )


def interval(questions: Asked) -> tuple[float, float]:
    """95 % of bootstrap draws over pictures, each with all its questions."""
    return between((q.record.tags["base"], right(q)) for q in questions)


def between(values: Iterable[tuple[object, float]]) -> tuple[float, float]:
    """95 % of bootstrap draws over pictures, of (picture, value) pairs."""
    of_picture: dict[object, list[float]] = defaultdict(list)
    for picture, value in values:
        of_picture[picture].append(value)
    sums, counts = (np.array([f(v) for v in of_picture.values()]) for f in (sum, len))
    draws = np.random.default_rng(0).integers(len(sums), size=(DRAWS, len(sums)))
    low, high = np.percentile(sums[draws].sum(1) / counts[draws].sum(1), [2.5, 97.5])
    return float(low), float(high)


def ask(answerer: Answerer, data: Path, images: Path, folder: Path, shuffled: bool) -> Asked:
    """Answer and score one file."""
    request = Request(
        data=data,
        images=images,
        split=None,
        run=folder / f"{data.stem}{'-shuffled' if shuffled else ''}",
        model=answerer.name,
        shuffle_seed=SHUFFLE_SEED if shuffled else None,
    )
    return list(evaluate(request, lambda *_: answerer).evaluation.questions)


def sampled(records: list[Record], most: int = MOST) -> list[Record]:
    """At most so many of each task and form, drawn once for all candidates."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.tags["task"], record.answer_type].append(record)
    rng = Random(SHUFFLE_SEED)  # not every n-th: yes and no take turns in the file
    return [r for own in groups.values() for r in rng.sample(own, min(most, len(own)))]


def consistency_records(records: list[Record]) -> list[Record]:
    """Pictures asked for their modality in ten wordings, and whether they are a CT and an MRI."""
    of_picture = {
        r.tags["base"]: r
        for r in records
        if r.tags["task"] == "modality" and r.answer_type == "OPEN"
    }
    chosen = list(of_picture.values())[:: -(-len(of_picture) // CONSISTENT)]
    words = [*WORDINGS["modality"]["kept"], *WORDINGS["modality"]["asked"][:2]]
    made = []
    for record in chosen:
        texts = {f"word-{i}": text for i, text in enumerate(words)}
        texts |= {
            name: f"Is this {NAMED[name][0]}?" for name in ("CT", "MRI", "X-ray", "ultrasound")
        }
        for key, text in texts.items():
            answer = ("yes" if key == record.answer else "no") if key in NAMED else record.answer
            tags = {**record.tags, "wording": key}
            made.append(
                replace(record, id=f"{record.id}/{key}", question=text, answer=answer, tags=tags)
            )
    return made


def consistency(questions: Asked) -> dict[str, float]:
    """How far answers about one picture agree with each other."""
    of_picture: dict[str, dict[str, str]] = defaultdict(dict)
    for question in questions:
        said = question.prediction.answer.strip().lower()
        of_picture[question.record.tags["base"]][question.record.tags["wording"]] = said
    same, agree, both = [], [], []
    for said in of_picture.values():
        worded = [text for key, text in said.items() if key.startswith("word-")]
        commonest, number = Counter(worded).most_common(1)[0]
        same.append(number / len(worded))
        agree += [
            (said[n] == "yes") == (commonest == n.lower())
            for n in ("CT", "MRI", "X-ray", "ultrasound")
        ]
        both.append(said["CT"] == said["MRI"] == "yes")
    means = (float(np.mean(v)) for v in (same, agree, both))
    return dict(
        zip(("ten wordings", "yes/no agrees with open", "CT and MRI both yes"), means, strict=True)
    ) | {"pictures": len(same)}


def table(own: Asked, other: Asked, trained: dict[str, set[str]]) -> list[dict[str, object]]:
    """One row a task."""
    by_id = [{q.record.id: q for q in each} for each in (own, other)]
    rows: list[dict[str, object]] = []
    for name, records in rows_of([q.record for q in own], trained).items():
        if not records:
            continue
        asked, shuffled = ([each[r.id] for r in records] for each in by_id)
        low, high = interval(asked)
        sure = [q for q in asked if (q.prediction.confidence or 0) >= SURE]
        rows.append(
            {
                "task": name,
                "n": len(asked),
                "pictures": len({r.tags["base"] for r in records}),
                "right": float(np.mean([right(q) for q in asked])),
                "low": low,
                "high": high,
                "shuffled": float(np.mean([right(q) for q in shuffled])),
                "majority": Counter(r.answer for r in records).most_common(1)[0][1] / len(records),
                "wrong and sure": sum(1 - right(q) for q in sure) / len(asked),
            }
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--set", default="development", choices=["development", "final"])
    given = parser.parse_args()
    answerer = Answerer.load(given.model)
    trained: dict[str, set[str]] = defaultdict(set)
    for record in read_records(given.data / "official_kinds.jsonl"):
        trained[record.tags["task"]].add(record.answer)
    records = list(read_records(given.data / f"{given.set}.jsonl"))
    given.run.mkdir(parents=True, exist_ok=True)
    write_records(given.run / f"{given.set}.jsonl", sampled(records))
    write_records(given.run / "consistency.jsonl", consistency_records(records))

    def asked(path: Path, shuffled: bool = False) -> Asked:
        return ask(answerer, path, given.data, given.run, shuffled)

    path = given.run / f"{given.set}.jsonl"
    rows = table(asked(path), asked(path, True), trained)
    agreement = consistency(asked(given.run / "consistency.jsonl"))
    official = given.data / "vqa_rad_test.jsonl"
    metrics = [m for m in get_profile("multimedeval").metrics if m.key in TABLE_1_METRICS.values()]
    rad = {
        name: {
            m.label: float(np.mean([q.values[m.key] for q in questions if m.key in q.values]))
            for m in metrics
        }
        for name, questions in (("own", asked(official)), ("shuffled", asked(official, True)))
    }
    result = {"table": rows, "consistency": agreement, "vqa_rad": rad}
    (given.run / f"{given.set}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(
        "| task | n | pictures | right | interval | shuffled | majority | wrong and sure |\n|"
        + "---|" * 8
    )
    for row in rows:
        range_ = f"{row['low']:.2f} to {row['high']:.2f}"
        others = " | ".join(
            f"{row[name]:.3f}" for name in ("shuffled", "majority", "wrong and sure")
        )
        print(
            f"| {row['task']} | {row['n']} | {row['pictures']} | {row['right']:.3f} | {range_} | {others} |"
        )
    print(json.dumps({"consistency": agreement, "vqa_rad": rad}, indent=1))


if __name__ == "__main__":
    main()
