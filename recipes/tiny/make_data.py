"""Turn the labelled folders and VQA-RAD into the records that train ``biod2c-tiny``.

``python recipes/tiny/make_data.py runs/tiny/data`` reads the folder named by ``BIOD2C_DATA`` (or
``--root``) and writes, below the output folder, the pictures and

=================== ==============================================================================
V_language.txt      text for the language model
V_captions.jsonl    captions, and where single things are: stage 1
V_kinds.jsonl       what a picture is: modality, organ, plane; with queues: stage 2
V_findings.jsonl    what it shows, often yes or no, about few pictures: stage 2, met more often
V_things.jsonl      questions about counts, places and sizes of boxed things, and about arrows
V_vqa_rad.jsonl     VQA-RAD's own train questions
V_reworded.jsonl    the same in other words
development.jsonl   questions in kept wordings about sources left out; looked at for every choice
development_own     of these, those about other pictures of the sources of training
development_new     of these, those about sources that training does not have
final.jsonl         the same about other sources, scored once
vqa_rad_test.jsonl  VQA-RAD's official test questions
=================== ==============================================================================

V is a variant: ``official`` has all of VQA-RAD's train split, ``disjoint`` leaves out every image of
the test split in all forms.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import vqa_rad
from arrow_images import ArrowMaker, ArrowPicture
from arrows import arrow_questions, presence_question
from captions import caption_of
from corpus import canonical_answer, grouped_lines, line, slake_rows, undecided_lines, write_lines
from crops import crop_pictures
from pictures import BOXED, NO_ARROWS, Picture, read_pictures, rng_for
from questions import WORDINGS, Question, phrases_about, questions_about, sentence_about
from queues import build_queue
from things import (
    Question as ThingQuestion,
)
from things import (
    balanced,
    count_questions,
    place_questions,
    presence_questions,
    size_questions,
)
from turns import turned_pictures

from biod2c_core.data.records import Record, write_records

THINGS = (presence_questions, count_questions, place_questions, size_questions)
THING_CAP = {"train": 120, "development": 30, "final": 30}  # of one answer of one topic
# Arrow images for each target of a source, half of them with a second arrow; and at any place.
AIMED = {
    "train": {"blood_cells": 650, "endoscopy": 800, "nuclei": 700},
    "development": {"blood_cells": 30, "endoscopy": 30, "nuclei": 30},
    "final": {"blood_cells": 30, "endoscopy": 30, "nuclei": 30},
}
ANYWHERE = {"train": 1800, "development": 400, "final": 300}
TWO = 0.5
TEXT = 14_000  # derived questions that the language model reads
KINDS = ("modality", "organ", "plane", "medical")
DESCRIBED = 0.35  # share of the pictures that are described in a sentence, in stage 2 as well
Asked = list[tuple[Picture | ArrowPicture, ThingQuestion]]


def link_images(root: Path, out: Path, pictures: list[Picture]) -> None:
    """Let the pictures lie below the output folder too, so that all records share one image root."""
    for picture in pictures:
        target = out / picture.image
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((root / picture.image).read_bytes())


def whole_records(asked: list[Question], part: str, seed: int) -> list[Record]:
    """Records of questions about whole pictures; what a question asks for stays out of its queue."""
    known = {q.picture.name: phrases_about(q.picture) for q in asked}
    words = sorted({text for facts in known.values() for _, text in facts})
    numbers: Counter[str] = Counter()
    records = []
    for question in asked:
        picture = question.picture
        said = (question.task, question.text, question.answer, question.closed)
        record = _record(picture, picture, said, numbers, words, part, seed)
        tags = record.tags | ({"named": question.named} if question.named else {})
        records.append(replace(record, tags=tags))
    return records


def _record(
    picture: Picture | ArrowPicture,
    base: Picture,
    said: tuple[str, str, str, bool],
    numbers: Counter[str],
    words: Sequence[str],
    part: str,
    seed: int,
) -> Record:
    task, text, answer, closed = said
    stem = f"{picture.name}/{task}"
    numbers[stem] += 1
    facts = [text for fact, text in phrases_about(base) if fact != task]
    rng = rng_for(seed, "queue", stem, numbers[stem])
    return Record(
        id=f"{stem}-{numbers[stem]}",
        image=picture.image,
        question=text,
        answer=answer,
        answer_type="CLOSED" if closed else "OPEN",
        queue=build_queue(answer, facts, words, rng) if part == "train" else (),
        source=base.source,
        split=split_of(part),
        tags={"task": task, "base": base.origin},
    )


def split_of(part: str) -> str:
    """The split that records of a side belong to; left-out sources are tests."""
    return "train" if part == "train" else "test"


def described(pictures: list[Picture], part: str, seed: int, share: float) -> list[Record]:
    """Each picture in a sentence."""
    records = []
    for picture in pictures:
        rng = rng_for(seed, "describe", picture.name)
        if rng.random() >= share:
            continue
        boxed = picture.source in BOXED or picture.source == "oct"
        text = caption_of(picture) if boxed else sentence_about(picture)
        records.append(caption_record(picture.name, picture.image, picture.origin, text, rng, part))
    return records


def caption_record(
    name: str, image: str, base: str, text: str, rng: object, part: str = "train"
) -> Record:
    """An instruction and a sentence as its answer."""
    words = WORDINGS["describe"]["asked" if part == "train" else "kept"]
    return Record(
        id=f"{name}/describe",
        image=image,
        question=rng.choice(words),  # type: ignore[attr-defined]
        answer=text,
        caption=text,
        source=Path(base).parts[0],
        split=split_of(part),
        tags={"task": "describe", "base": base},
    )


def thing_records(
    pictures: list[Picture], out: Path, part: str, seed: int
) -> tuple[list[Record], list[Record]]:
    """Counts, places and sizes of boxed things, and arrows; and captions of the same pictures."""
    boxed = [p for p in pictures if p.source in BOXED]
    crops = crop_pictures(boxed, out, seed)
    turned = turned_pictures(boxed, out) if part == "train" else []
    asked: Asked = []
    for picture in [*boxed, *crops]:
        rng = rng_for(seed, "things", picture.name)
        asked += [(picture, q) for ask in THINGS for q in ask(picture, rng)]
    for picture in turned:
        rng = rng_for(seed, "things", picture.name)
        asked += [(picture, q) for q in place_questions(picture, rng)]
    asked = balanced(asked, THING_CAP[part], seed)
    drawn = _arrow_pictures(pictures, [*boxed, *crops, *turned], out, part, seed)
    asked += _about_arrows(drawn, pictures, part, seed)
    captions = described([*crops, *turned], part, seed, 0.5)
    captions += [
        caption_record(p.name, p.image, p.base.origin, p.caption(), rng_for(seed, p.name))
        for p in drawn
    ]
    return _records_of(asked, part, seed), captions


def _arrow_pictures(
    pictures: list[Picture], boxed: list[Picture], out: Path, part: str, seed: int
) -> list[ArrowPicture]:
    maker = ArrowMaker(out, seed)
    drawn = list(maker.aimed(boxed, AIMED[part], f"aimed-{part}", TWO))
    able = [p for p in pictures if p.facts.get("modality") not in NO_ARROWS or part != "train"]
    return drawn + list(maker.anywhere(able, ANYWHERE[part]))


def _about_arrows(
    drawn: list[ArrowPicture], pictures: list[Picture], part: str, seed: int
) -> Asked:
    asked: Asked = []
    for picture in drawn:
        rng = rng_for(seed, "arrow questions", picture.name)
        asked += [(picture, q) for q in arrow_questions(list(picture.arrows), picture.base, rng)]
    present = [pair for pair in asked if pair[1].task == "arrow_presence"]
    able = [p for p in pictures if p.facts.get("modality") not in NO_ARROWS or part != "train"]
    rng = rng_for(seed, "no arrow", part)
    without = rng.sample(able, min(len(able), len(present), ANYWHERE[part]))
    present = rng.sample(present, min(len(present), len(without)))
    asked = [pair for pair in asked if pair[1].task != "arrow_presence"]
    return asked + present + [(p, presence_question(p, "no")) for p in without]


def _records_of(asked: Asked, part: str, seed: int) -> list[Record]:
    numbers: Counter[str] = Counter()
    records = []
    for picture, question in asked:
        base = picture.base if isinstance(picture, ArrowPicture) else picture
        said = (question.task, question.question, question.answer, question.closed)
        record = _record(picture, base, said, numbers, (), part, seed)
        sides = base.size * 2
        boxes = tuple(
            tuple(
                round(min(1.0, max(0.0, v / side)), 4) for v, side in zip(box, sides, strict=True)
            )
            for box in question.seen_in
        )
        arrows = {"arrows": str(len(picture.arrows))} if isinstance(picture, ArrowPicture) else {}
        records.append(replace(record, boxes=boxes, tags=record.tags | arrows))  # type: ignore[arg-type]
    return records


def single(records: Iterable[Record]) -> list[Record]:
    """Where one thing is, and what, where and which way the only arrow points: learned first."""
    tasks = ("quadrant", "arrow", "arrow_where", "arrow_direction")
    return [
        r
        for r in records
        if r.boxes
        and r.tags["task"] in tasks
        and r.tags.get("arrows", "1") == "1"
        and r.answer_type == "OPEN"
    ]


def without(records: Iterable[Record], images: set[str]) -> list[Record]:
    """The records that do not show one of the images, whole, in part or drawn on."""
    return [record for record in records if record.tags["base"] not in images]


def language_lines(records: list[Record], captions: list[Record], seed: int) -> list[str]:
    """Captions behind themselves, and questions behind the caption of their picture, or bare.

    The model that reads a caption in front of the question learns to look there; later the visual
    tokens stand in that place.
    """
    caption_of_image = {record.image: record.caption for record in captions}
    rng = rng_for(seed, "language")
    chosen = rng.sample(records, min(TEXT, len(records)))
    lines = [line(r.question, r.answer, r.caption) for r in captions]
    for record in chosen:
        lines.append(line(record.question, record.answer, caption_of_image.get(record.image, "")))
    return lines


def build(root: Path, out: Path, seed: int, limit: int = 0) -> dict[str, list[Record]]:
    """Write everything.

    Args:
        root: Folder of the data sets.
        out: Folder to write, the image root of all records.
        seed: Of every draw.
        limit: Take every so-manieth picture only, for a try; 0 takes all.

    Returns:
        The records of each file, by its name without suffix.
    """
    train_rows, test_rows = vqa_rad.read_vqa_rad(root)
    for row in train_rows:
        row["answer"] = canonical_answer(row["answer"])
    scans = vqa_rad.vqa_rad_pictures(root, train_rows)
    pictures = read_pictures(root)
    if limit:
        pictures, scans = pictures[::limit], scans[::limit]
        names = {Path(p.image).name for p in scans}
        train_rows = [row for row in train_rows if row["image_name"] in names]
        test_rows = [row for row in test_rows if row["image_name"] in names]
    link_images(root, out, [*pictures, *scans])
    files: dict[str, list[Record]] = {}
    for part in ("development", "final"):
        own = [p for p in pictures if p.part == part]
        asked = whole_records(questions_about(own, seed, kept=True), part, seed)
        files[part] = asked + thing_records(own, out, part, seed)[0]
    trained = {p.source for p in pictures if p.part == "train"}
    for name, is_known in (("development_own", True), ("development_new", False)):
        files[name] = [r for r in files["development"] if (r.source in trained) == is_known]
    own = [p for p in pictures if p.part == "train"]
    whole = whole_records(questions_about([*own, *scans], seed), "train", seed)
    things, captions = thing_records([*own, *scans], out, "train", seed)
    captions += described([*own, *scans], "train", seed, 1.0)
    slake = list(grouped_lines(slake_rows(root / "slake_text" / "train.json"), seed))
    unseen = {vqa_rad.image_path(row) for row in test_rows}
    for variant, excluded in {"official": set(), "disjoint": unseen}.items():
        rows = [row for row in train_rows if vqa_rad.image_path(row) not in excluded]
        own_captions = without(captions, excluded) + vqa_rad.captions(scans, rows, seed)
        asked_things = without(things, excluded)
        sentences = [
            r
            for r in without(captions, excluded)
            if rng_for(seed, "in stage 2", r.id).random() < DESCRIBED
        ]
        files[f"{variant}_captions"] = own_captions
        files[f"{variant}_single"] = single(asked_things)
        about = without(whole, excluded)
        files[f"{variant}_kinds"] = [r for r in about if r.tags["task"] in KINDS] + sentences
        files[f"{variant}_findings"] = [r for r in about if r.tags["task"] not in KINDS]
        files[f"{variant}_things"] = asked_things
        files[f"{variant}_vqa_rad"] = vqa_rad.train_records(scans, rows, seed)
        files[f"{variant}_reworded"] = vqa_rad.reworded_records(files[f"{variant}_vqa_rad"], seed)
        lines = {
            *slake,
            *language_lines(about + asked_things, own_captions, seed),
        }
        openings = {p.image: sentence_about(p) for p in scans}
        of_image = [(vqa_rad.image_path(row), row["question"], row["answer"]) for row in rows]
        lines.update(undecided_lines([(i, openings[i], q, a) for i, q, a in of_image], seed))
        write_lines(out / f"{variant}_language.txt", lines, seed)
    files["vqa_rad_test"] = [
        vqa_rad.plain_record(row, "test") for row in test_rows
    ]  # steps.sh: the last
    for name, records in files.items():
        write_records(out / f"{name}.jsonl", records)
    return files


def print_counts(files: dict[str, list[Record]], out: Path) -> None:
    """How many records, pictures, and questions of each task."""
    for name, records in files.items():
        tasks = Counter(record.tags["task"] for record in records)
        images = len({record.image for record in records})
        print(
            f"{name}: {len(records)} records, {images} pictures; "
            + ", ".join(f"{t} {n}" for t, n in tasks.most_common())
        )
    for path in sorted(out.glob("*_language.txt")):
        print(f"{path.name}: {len(path.read_text('utf-8').splitlines())} lines")


def main() -> None:
    """Parse the arguments and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write, for example runs/tiny/data")
    default = os.environ.get("BIOD2C_DATA", "../shared/data")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=int, default=0, help="every so-manieth picture; 0 takes all"
    )
    given = parser.parse_args()
    if not (given.root / "vqa_rad" / "trainset.json").exists():
        parser.error(f"no VQA-RAD below {given.root}; set BIOD2C_DATA or --root")
    print_counts(build(given.root, given.out, given.seed, given.limit), given.out)


if __name__ == "__main__":
    main()
