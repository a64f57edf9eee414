"""Score the models of ``ablation.sh`` and print what each part of the model is worth.

    python recipes/tiny/ablation.py runs/tiny

scores every trained model that has no scores yet, and then prints, for the arms with at least one seed:

- questions about development pictures, which training left out, and VQA-RAD's official test split, by
  MultiMedEval's definitions, and for two arms about shuffled images as well;
- the first of these by kind of question;
- the pointing game on development pictures: the maximum of the fusion decoder's map, and of the language
  model's, which is all there is without fusion.

A figure is the mean over seeds with the least and the most. The difference from ``full`` pairs the
questions, each with its mean over seeds; its interval is a bootstrap over images.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean

from PIL import Image
from report import ask, right, sampled

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.evaluation.predict.predictions_file import read_predictions
from biod2c_core.evaluation.report.published import TABLE_1_METRICS
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
    "vqa_rad_only": "without derived questions",
    "disjoint": "without the test images of VQA-RAD",
}
SHUFFLED = ("full", "disjoint")  # the arms that are asked about shuffled images as well
SETS = {"development": "left-out pictures", "vqa_rad_test": "VQA-RAD, official test"}
PER_TASK = 50  # questions of each kind and form about left-out pictures
POINTED = 50  # pictures of each kind of thing
PROFILE = get_profile("multimedeval")
METRICS = [m for m in PROFILE.metrics if m.key in TABLE_1_METRICS.values()]


def thing_asked_for(record: Record) -> str:
    """What the picture has one of, boxed, where the question asks for its place; else nothing."""
    if record.answer_type != "OPEN" or not record.boxes:
        return ""
    if record.tags["task"] == "arrow_where" and record.tags["arrows"] == "1":
        return "drawn arrow"
    names = ("polyp", "white blood cell")
    asked = record.question if record.tags["task"] == "quadrant" else ""
    return next((name for name in names if name in asked), "")


def pointing_records(records: list[Record]) -> dict[str, list[Record]]:
    """Left-out pictures that ask where one thing is, each once."""
    found: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        if thing := thing_asked_for(record):
            found[thing].setdefault(record.image, record)
    return {thing: list(own.values())[:POINTED] for thing, own in found.items()}


def is_hit(answerer: Answerer, picture: Image.Image, record: Record, method: Method) -> bool:
    """Whether the maximum of the map lies in a box."""
    (answer,) = answerer.answer([picture], [record.question])
    trace = trace_answer(answerer, answerer.processor.pixels(picture), record.question, answer.ids)
    across, down = picture.size
    boxes = tuple((x * across, y * down, u * across, v * down) for x, y, u, v in record.boxes)
    values = map_trace(trace, View(method))[0].numpy()
    return any(each.hit for each in score_boxes(values, picture.size, boxes))


def point(
    answerer: Answerer, asked: dict[str, list[Record]], images: Path
) -> dict[str, dict[str, list[bool]]]:
    """Method -> thing -> whether the map's maximum lies in a box, picture by picture."""
    methods: tuple[Method, ...] = ("fusion", "language")
    if not answerer.model.fusion.enabled:
        methods = ("language",)
    hits: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in methods}
    for thing, records in asked.items():
        for record in records:
            with Image.open(images / record.image) as file:
                picture = file.convert("RGB")
            for name in methods:
                hits[name][thing].append(is_hit(answerer, picture, record, name))
    return hits


def score_model(folder: Path, data: Path, with_shuffled: bool) -> None:
    """Answer and point; what is there already is kept."""
    answerer = Answerer.load(str(folder / "model"), "cpu")
    for name in SETS:
        for shuffled in (False, True)[: 1 + with_shuffled]:
            ask(answerer, folder.parent / f"{name}.jsonl", data, folder / "scores", shuffled)
    everything = list(read_records(data / "development.jsonl"))
    hits = point(answerer, pointing_records(everything), data)
    with atomic_open(folder / "scores" / "pointing.json") as file:
        json.dump(hits, file)


def seeds_mean(folders: list[Path], records: list[Record], name: str) -> Evaluation:
    """The evaluation of an arm on one set, each question with its mean over seeds."""
    each = []
    for folder in folders:
        path = folder / "scores" / name / "predictions.jsonl"
        each.append(score(records, read_predictions(path), PROFILE, path).questions)
    questions = tuple(
        replace(same[0], values={k: mean(q.values[k] for q in same) for k in same[0].values})
        for same in zip(*each, strict=True)
    )
    return Evaluation(PROFILE, questions)


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
    """The paper's columns on one set, and each arm's difference from ``full``."""
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
    if differences:
        print_table(f"{title}: difference from full", labels, differences)


def print_kinds(records: list[Record], arms: dict[str, list[Path]]) -> None:
    """Share of right answers by kind of question about left-out pictures, one row for each kind."""
    columns: dict[str, dict[str, list[ScoredQuestion]]] = {}
    for arm, folders in arms.items():
        by_kind: dict[str, list[ScoredQuestion]] = defaultdict(list)
        for question in seeds_mean(folders, records, "development").questions:
            record = question.record
            by_kind[f"{record.tags['task']}, {record.answer_type.lower()}"].append(question)
        columns[arm] = by_kind
    print("\n| left-out pictures | n | " + " | ".join(ARMS[arm] for arm in arms) + " |")
    print("|---" * (len(arms) + 2) + "|")
    for kind, asked in sorted(columns["full"].items()):
        cells = [f"{mean(map(right, by_kind[kind])):.3f}" for by_kind in columns.values()]
        print(f"| {kind} | {len(asked)} | " + " | ".join(cells) + " |")


def print_pointing(arms: dict[str, list[Path]]) -> None:
    """Share of maps whose maximum lies in a box, by method and thing."""
    for method in ("fusion", "language"):
        rows: dict[str, list[str]] = {}
        things: list[str] = []
        for arm, folders in arms.items():
            found = [json.loads((f / "scores" / "pointing.json").read_text()) for f in folders]
            if method in found[0]:
                things = [f"{thing}, n = {len(hits)}" for thing, hits in found[0][method].items()]
                rows[arm] = [
                    spread([mean(one[method][t]) for one in found]) for t in found[0][method]
                ]
        print_table(f"pointing, {method}", things, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of make.sh and ablation.sh")
    given = parser.parse_args()
    data, folder = given.out / "data", given.out / "ablation"
    trained = {
        arm: sorted(path.parent for path in folder.glob(f"{arm}-[0-9]*/model")) for arm in ARMS
    }
    arms = {arm: folders for arm, folders in trained.items() if folders}
    if "full" not in arms:
        parser.error(f"no trained model below {folder}; run ablation.sh first")
    asked = {
        "development": sampled(list(read_records(data / "development.jsonl")), PER_TASK),
        "vqa_rad_test": list(read_records(data / "vqa_rad_test.jsonl")),
    }
    for name, records in asked.items():
        write_records(folder / f"{name}.jsonl", records)
    for arm, folders in arms.items():
        for run in folders:
            if not (run / "scores" / "pointing.json").exists():
                score_model(run, data, arm in SHUFFLED)
    for name, title in SETS.items():
        print_scores(title, name, asked[name], arms)
        own = {arm: folders for arm, folders in arms.items() if arm in SHUFFLED}
        print_scores(f"{title}, images shuffled", f"{name}-shuffled", asked[name], own)
    print_kinds(asked["development"], arms)
    print_pointing(arms)


if __name__ == "__main__":
    main()
