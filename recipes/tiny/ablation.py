"""Score the models of ``ablation.sh`` and print what each part of the model is worth.

``BIOD2C_DATA=../shared/data python recipes/tiny/ablation.py runs/tiny`` scores every trained model that
has no scores yet, and then prints, for the arms with at least one seed:

- VQA-RAD's official test split by MultiMedEval's definitions, own images and shuffled ones;
- questions about held-out images of the derived sets, by kind;
- the pointing game on held-out images: the maximum of the fusion decoder's map, and of the language
  model's, which is all there is without fusion.

A figure is the mean over seeds with the least and the most. The difference from ``full`` pairs the
questions, each with its mean over seeds; its interval is a bootstrap over images.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean

from make_data import labelled_pictures
from pointing import Case, arrow_cases, arrow_pairs, object_cases
from report import METRICS, accuracy, run, sample

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import read_predictions
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import Evaluation, ScoredQuestion, score
from biod2c_core.evaluation.statistics.intervals import compare
from biod2c_core.inference.attention.attention_map import Method, View
from biod2c_core.inference.attention.boxes import score_boxes
from biod2c_core.inference.attention.explain import map_trace
from biod2c_core.inference.attention.trace import trace_answer
from biod2c_core.model.generation import Answerer

ARMS = {
    "full": "full",
    "no_sem": "without L_sem",
    "released_sem": "the authors' L_sem",
    "no_fusion": "without fusion",
    "vqa_rad_only": "without arrows and derived data",
}
PER_TASK = 40  # questions of each kind about held-out images
POINTED = 50  # images of each kind of object


def pointing_cases(root: Path) -> list[Case]:
    """Held-out images that ask where one thing is."""
    pictures = [picture for picture in labelled_pictures(root, 0, 0) if picture.part == "heldout"]
    pairs = list(arrow_pairs(root, pictures, POINTED, 0))
    return [*object_cases(root, pictures, POINTED), *arrow_cases(pairs)]


def point(answerer: Answerer, cases: list[Case]) -> dict[str, dict[str, list[bool]]]:
    """Method -> object -> whether the map's maximum lies in a box."""
    methods: tuple[Method, ...] = ("fusion", "language")
    if not answerer.model.fusion.enabled:
        methods = ("language",)
    hits: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in methods}
    for case in cases:
        (answer,) = answerer.answer([case.image], [case.question])
        pixels = answerer.processor.pixels(case.image)
        trace = trace_answer(answerer, pixels, case.question, answer.ids)
        for name in methods:
            values = map_trace(trace, View(name))[0].numpy()
            scores = score_boxes(values, case.image.size, case.boxes)
            hits[name][case.kind].append(any(each.hit for each in scores))
    return hits


def score_model(folder: Path, data: Path, cases: list[Case]) -> None:
    """Answer and point; what is there already is kept."""
    answerer = Answerer.load(str(folder / "model"), "cpu")
    scores = folder / "scores"
    test = data / "vqa_rad_test.jsonl"
    for shuffled in (False, True):
        run(answerer, test, data, scores, shuffled)
    run(answerer, sample(data / "heldout.jsonl", scores, PER_TASK), data, scores, False)
    with atomic_open(scores / "pointing.json") as file:
        json.dump(point(answerer, cases), file)


def seeds_mean(folders: list[Path], records: list[Record], name: str) -> Evaluation:
    """The evaluation of an arm on one set, each question with its mean over seeds."""
    profile = get_profile("multimedeval")
    each = []
    for folder in folders:
        path = folder / "scores" / name / "predictions.jsonl"
        each.append(score(records, read_predictions(path), profile, path).questions)
    questions = tuple(
        replace(same[0], values={k: mean(q.values[k] for q in same) for k in same[0].values})
        for same in zip(*each, strict=True)
    )
    return Evaluation(profile, questions)


def spread(values: list[float]) -> str:
    """Mean, least and most."""
    return f"{mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def print_table(title: str, columns: list[str], rows: dict[str, list[str]]) -> None:
    """Markdown, one row for each arm."""
    print(f"\n| {title} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for arm, cells in rows.items():
        print(f"| {ARMS[arm]} | " + " | ".join(cells) + " |")


def print_scores(title: str, name: str, records: list[Record], arms: dict[str, list[Path]]) -> None:
    """The paper's four columns on one set, and each arm's difference from ``full``."""
    evaluations = {arm: seeds_mean(folders, records, name) for arm, folders in arms.items()}
    figures, differences = {}, {}
    for arm, folders in arms.items():
        by_seed = [seeds_mean([folder], records, name) for folder in folders]
        means = [[one.mean(metric.key).value for one in by_seed] for metric in METRICS]
        figures[arm] = [spread(values) for values in means]
        if arm != "full":
            tests = compare(evaluations[arm], evaluations["full"])
            found = [tests[metric.key] for metric in METRICS]
            differences[arm] = [
                f"{t.difference:+.3f} ({t.low:+.3f} to {t.high:+.3f})" for t in found
            ]
    labels = [metric.label for metric in METRICS]
    print_table(title, labels, figures)
    print_table(f"{title}: difference from full", labels, differences)


def print_kinds(records: list[Record], arms: dict[str, list[Path]]) -> None:
    """Accuracy by kind of question about held-out images."""
    kinds = sorted({record.tags["task"] for record in records})
    rows = {}
    for arm, folders in arms.items():
        by_kind: dict[str, list[ScoredQuestion]] = defaultdict(list)
        for question in seeds_mean(folders, records, "heldout").questions:
            by_kind[question.record.tags["task"]].append(question)
        rows[arm] = [f"{accuracy(by_kind[kind]):.3f}" for kind in kinds]
    print_table("held-out images", kinds, rows)


def print_pointing(arms: dict[str, list[Path]]) -> None:
    """Share of maps whose maximum lies in a box, by method and object."""
    for method in ("fusion", "language"):
        rows: dict[str, list[str]] = {}
        objects: list[str] = []
        for arm, folders in arms.items():
            found = [json.loads((f / "scores" / "pointing.json").read_text()) for f in folders]
            if method in found[0]:
                objects = list(found[0][method])
                rows[arm] = [spread([mean(one[method][name]) for one in found]) for name in objects]
        print_table(f"pointing, {method}", objects, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of make.sh and ablation.sh")
    default = os.environ.get("BIOD2C_DATA", "../shared/data")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder of the data sets")
    given = parser.parse_args()
    data = given.out / "data"
    trained = {
        arm: sorted(path.parent for path in given.out.glob(f"ablation/{arm}-[0-9]*/model"))
        for arm in ARMS
    }
    arms = {arm: folders for arm, folders in trained.items() if folders}
    if "full" not in arms:
        parser.error(f"no trained model below {given.out}/ablation; run ablation.sh first")
    missing = [
        folder
        for folders in arms.values()
        for folder in folders
        if not (folder / "scores" / "pointing.json").exists()
    ]
    if missing:
        cases = pointing_cases(given.root)
        for folder in missing:
            score_model(folder, data, cases)
    test = list(read_records(data / "vqa_rad_test.jsonl"))
    heldout = list(read_records(arms["full"][0] / "scores" / "heldout.jsonl"))
    print_scores("VQA-RAD, official test", "vqa_rad_test", test, arms)
    print_scores("VQA-RAD, images shuffled", "vqa_rad_test-shuffled", test, arms)
    print_scores("derived, held-out images", "heldout", heldout, arms)
    print_kinds(heldout, arms)
    print_pointing(arms)


if __name__ == "__main__":
    main()
