"""Turn the labelled image folders and VQA-RAD into the records that train ``biod2c-tiny``.

``python recipes/tiny/make_data.py runs/tiny/data`` reads the folder named by ``BIOD2C_DATA`` (or
``--root``) and writes, below the output folder, ``images/`` and one JSONL file per purpose:

============================ ======================================================================
stage1[_V].jsonl             captions
stage2[_V]_train.jsonl       questions with queues
stage2_validation.jsonl      questions about images of the derived sets kept aside for validation
tune_validation.jsonl        VQA-RAD train questions about images that variant ``tune`` never sees
heldout.jsonl                questions about images of the derived sets that nothing else uses
vqa_rad_test.jsonl           VQA-RAD's official test questions
language[_V].txt             text for the language model
============================ ======================================================================

Without ``_V`` the files serve the official split. Variant ``disjoint`` leaves out every image of
the test split, variant ``tune`` a part of the train images; both in all forms (questions, captions,
arrows, text).
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from arrow_images import ArrowMaker, ArrowPicture
from arrows import arrow_questions
from corpus import canonical_answer, definition_lines, grouped_lines, line, slake_rows
from derive import Question, balanced, caption_of, facts_of, opening, questions_of
from queues import build_queue, related
from sources import (
    LABELLED,
    Picture,
    assign_parts,
    fingerprint,
    near_duplicate_groups,
    read_labelled,
    read_vqa_rad,
    rng_for,
    vqa_rad_pictures,
)
from statements import sentence, statement

from biod2c_core.atomic import atomic_open
from biod2c_core.data.records import Record, write_records

INSTRUCTIONS = (
    "Describe the image.",
    "What does the image show?",
    "Write a caption for this image.",
    "Describe this medical image briefly.",
)
# Correlation of fingerprints from which two images count as one view: the two true duplicates among
# smears and nuclei lie above it, all other pairs there far below; slices of one eye lie above it too.
SAME_VIEW = 0.95
HELDOUT, VALIDATION, TUNE = 0.17, 0.05, 0.15  # shares of images
CAPS = {"train": 60, "validation": 12, "heldout": 40}  # questions of one answer of one topic
AIMED = {  # arrow images for each target of a source
    "train": {"blood_cells": 300, "endoscopy": 380, "nuclei": 380},
    "validation": {"blood_cells": 12, "endoscopy": 16, "nuclei": 16},
    "heldout": {"blood_cells": 40, "endoscopy": 60, "nuclei": 60},
}
ANYWHERE = {"train": 1100, "validation": 40, "heldout": 120}
VQA_RAD_CAPTIONS = 3  # captions for each image, of different facts

Row = dict[str, str]


class Recipe:
    """All records, from the pictures and the rows of VQA-RAD."""

    def __init__(self, root: Path, out: Path, seed: int, limit: int = 0) -> None:
        self.root, self.out, self.seed, self.limit = root, out, seed, limit
        self.train_rows, self.test_rows = read_vqa_rad(root)
        if limit:
            names = sorted({row["image_name"] for row in self.train_rows})[: 2 * limit]
            self.train_rows = [row for row in self.train_rows if row["image_name"] in names]
            self.test_rows = [row for row in self.test_rows if row["image_name"] in names]
        for row in self.train_rows:
            row["answer"] = canonical_answer(row["answer"])
        self.vqa_rad = vqa_rad_pictures(root, self.train_rows)
        self.pictures = self._labelled()
        self.maker = ArrowMaker(out, seed)

    def _labelled(self) -> list[Picture]:
        everything = []
        for source in LABELLED:
            pictures = read_labelled(self.root, source, self.limit)
            paths = [self.root / picture.image.removeprefix("images/") for picture in pictures]
            paths = [path.parent / "images" / path.name for path in paths]
            prints = np.array([fingerprint(path) for path in paths])
            groups = near_duplicate_groups(prints, SAME_VIEW)
            assign_parts(pictures, groups, self.seed, HELDOUT, VALIDATION)
            everything += pictures
        return everything

    def copy_images(self) -> None:
        """Copy what is not there yet, so that all records share one image root."""
        for picture in [*self.pictures, *self.vqa_rad]:
            target = self.out / picture.image
            original = self.root / picture.source / "images" / target.name
            if not target.exists() or target.stat().st_size != original.stat().st_size:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(original, target)

    def pictures_of(self, part: str) -> list[Picture]:
        """The pictures that questions of this part are about."""
        own = [picture for picture in self.pictures if picture.part == part]
        return own + self.vqa_rad if part == "train" else own

    def variants(self) -> dict[str, set[str]]:
        """For each variant the VQA-RAD images that none of its files may hold."""
        by_organ = defaultdict(list)
        for picture in self.vqa_rad:
            by_organ[picture.labels["organ"]].append(picture.image)
        tune: set[str] = set()
        for organ, images in sorted(by_organ.items()):
            rng_for(self.seed, "tune", organ).shuffle(images)
            tune |= set(images[: max(1, round(TUNE * len(images)))])
        disjoint = {f"images/vqa_rad/{row['image_name']}" for row in self.test_rows}
        return {"": set(), "disjoint": disjoint, "tune": tune}

    def derived(self, part: str) -> tuple[list[Record], list[Record]]:
        """Questions and captions of a part that follow from labels and from drawn arrows."""
        pictures = self.pictures_of(part)
        plain = [(p, q) for p in pictures for q in questions_of(p, self.seed)]
        plain = balanced(plain, CAPS[part], self.seed)
        vocabulary = [text for picture in pictures for _, text in facts_of(picture)]
        records = self._records(plain, {p.name: facts_of(p) for p in pictures}, vocabulary, part)
        captions = [self._caption(p.name, p.image, p.image, caption_of(p)) for p in pictures]
        arrow_records, arrow_captions = self._arrows(pictures, part, vocabulary)
        return records + arrow_records, captions + arrow_captions

    def _arrows(
        self, pictures: list[Picture], part: str, vocabulary: list[str]
    ) -> tuple[list[Record], list[Record]]:
        number = {name: n if not self.limit else 6 for name, n in AIMED[part].items()}
        drawn = list(self.maker.aimed(pictures, number))
        drawn += self.maker.anywhere(pictures, ANYWHERE[part] if not self.limit else 20)
        asked = []
        for picture in drawn:
            rng = rng_for(self.seed, "arrow questions", picture.name)
            asked += [(picture, q) for q in arrow_questions(picture.arrows, picture.base, rng)]
        without = rng_for(self.seed, "no arrow", part).sample(pictures, len(pictures))
        asked += [(p, no_arrow(p)) for p in without if p.source != "vqa_rad"]
        # Each target of a source equally often, so that the source does not tell the answer.
        fair = Counter((q.topic, q.answer) for _, q in asked)
        cap = {topic: min(n for (t, _), n in fair.items() if t == topic) for topic, _ in fair}
        kept = []
        for topic in sorted(cap):
            of_topic = [(p, q) for p, q in asked if q.topic == topic]
            most = cap[topic] if topic.startswith("arrow ") else len(of_topic)
            kept += balanced(of_topic, most, self.seed)
        facts = {picture.name: arrow_facts(picture) for picture in drawn}
        facts.update({picture.name: facts_of(picture) for picture in pictures})
        words = [text for picture in drawn for _, text in arrow_facts(picture)]
        records = self._records(kept, facts, vocabulary + words, part)
        captions = [self._caption(p.name, p.image, p.base.image, p.caption()) for p in drawn]
        return records, captions

    def _records(
        self,
        asked: list[tuple[Picture | ArrowPicture, Question]],
        facts: dict[str, list[tuple[str, str]]],
        vocabulary: list[str],
        part: str,
    ) -> list[Record]:
        vocabulary = sorted(set(vocabulary))
        numbers: Counter[str] = Counter()
        records = []
        for picture, question in asked:
            stem = f"{picture.name}/{question.task}"
            numbers[stem] += 1
            base = picture.base if isinstance(picture, ArrowPicture) else picture
            known = [text for task, text in facts[picture.name] if task != question.task]
            rng = rng_for(self.seed, "queue", stem, numbers[stem])
            records.append(
                Record(
                    id=f"{stem}-{numbers[stem]}",
                    image=picture.image,
                    question=question.question,
                    answer=question.answer,
                    answer_type="CLOSED" if question.closed else "OPEN",
                    queue=build_queue(question.answer, known, vocabulary, rng),
                    source=base.source,
                    split={"heldout": "test"}.get(part, part),
                    tags={"task": question.task, "topic": question.topic, "base": base.image},
                )
            )
        return records

    def _caption(self, name: str, image: str, base: str, text: str, number: int = 1) -> Record:
        rng = rng_for(self.seed, "instruction", name, number)
        return Record(
            id=f"{name}/caption-{number}",
            image=image,
            question=rng.choice(INSTRUCTIONS),
            answer=text,
            caption=text,
            source=Path(base).parent.name,
            split="train",
            tags={"task": "caption", "base": base},
        )

    def vqa_rad_captions(self, rows: list[Row]) -> list[Record]:
        """Captions of VQA-RAD images from the statements that these rows make."""
        said = statements_by_image(rows)
        captions = []
        for picture in self.vqa_rad:
            facts = list(dict.fromkeys(text for _, text in said.get(picture.image, [])))
            for number in range(VQA_RAD_CAPTIONS if facts else 0):
                rng = rng_for(self.seed, "facts", picture.name, number)
                chosen = rng.sample(facts, min(len(facts), rng.randint(3, 6)))
                text = " ".join([opening(picture), *map(sentence, chosen)])
                name, image = f"{picture.name}/facts", picture.image
                captions.append(self._caption(name, image, image, text, number + 1))
        return captions

    def vqa_rad_records(self, rows: list[Row], split: str) -> list[Record]:
        """VQA-RAD rows as records; train rows get a queue from the other rows given."""
        said = statements_by_image(rows)
        pictures = {picture.image: picture for picture in self.vqa_rad}
        by_organ: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            text = statement(row["question"], row["answer"]) or row["answer"]
            if len(text.split()) <= 8:
                by_organ[row["image_organ"]].add(text)
        records = []
        for row in rows:
            record = vqa_rad_record(row, split)
            if split == "train":
                known = [text for _, text in facts_of(pictures[record.image])]
                for question, text in said.get(record.image, []):
                    if not related(question, record.question):
                        known.append(text)
                rng = rng_for(self.seed, "queue", record.id)
                others = sorted(by_organ[row["image_organ"]])
                queue = build_queue(record.answer, known, others, rng)
                record = replace(record, queue=queue)
            records.append(record)
        return records


def no_arrow(picture: Picture) -> Question:
    """The counterpart to the question whether an arrow is there."""
    return Question(
        "arrow_presence",
        f"arrow_presence {picture.source}",
        "Is there an arrow in the image?",
        "no",
        True,
    )


def arrow_facts(picture: ArrowPicture) -> list[tuple[str, str]]:
    """What is known of an image with arrows: (task, phrase)."""
    facts = facts_of(picture.base)
    for arrow in picture.arrows:
        facts.append(("arrow_colour", f"{arrow.colour} arrow"))
        if arrow.target:
            facts.append(("arrow", f"arrow pointing to {arrow.target}"))
    return facts


def statements_by_image(rows: list[Row]) -> dict[str, list[tuple[str, str]]]:
    """For each image path its (question, statement) pairs."""
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        if text := statement(row["question"], row["answer"]):
            said[f"images/vqa_rad/{row['image_name']}"].append((row["question"], text))
    return said


def vqa_rad_record(row: Row, split: str) -> Record:
    """One row of VQA-RAD without a queue."""
    image = f"images/vqa_rad/{row['image_name']}"
    return Record(
        id=f"vqa_rad/{row['qid']}",
        image=image,
        question=row["question"],
        answer=row["answer"],
        answer_type=row["answer_type"],
        source="vqa_rad",
        split=split,
        tags={
            "task": "vqa_rad",
            "organ": row["image_organ"],
            "question_type": row["question_type"],
            "phrase_type": row["phrase_type"],
            "base": image,
        },
    )


def without(records: Iterable[Record], images: set[str]) -> list[Record]:
    """The records that are not about one of the images, drawn on or not."""
    return [record for record in records if record.tags["base"] not in images]


def language_lines(
    records: list[Record], captions: list[Record], rows: list[Row], recipe: Recipe
) -> list[str]:
    """The text that follows from these training records."""
    caption_of_image = {record.image: record.caption for record in captions}
    lines = [record.caption for record in captions]
    for record in records:
        if record.tags["task"] == "vqa_rad":
            continue
        lines.append(line(record.question, record.answer, caption_of_image[record.image]))
        if rng_for(recipe.seed, "bare", record.id).random() < 0.3:
            lines.append(line(record.question, record.answer))
    openings = {Path(picture.image).name: opening(picture) for picture in recipe.vqa_rad}
    grouped = [
        (row["image_name"], openings[row["image_name"]], row["question"], row["answer"])
        for row in rows
    ]
    return lines + list(grouped_lines(grouped, recipe.seed))


def common_text(root: Path, dictionary: Path | None, seed: int) -> list[str]:
    """SLAKE's train questions and, where given, the definitions of a radiology dictionary."""
    lines = []
    slake = root / "slake_text" / "train.json"
    if slake.exists():
        lines += grouped_lines(slake_rows(slake), seed)
    if dictionary:
        lines += definition_lines(dictionary)
    return lines


def build(
    root: Path, out: Path, seed: int, dictionary: Path | None = None, limit: int = 0
) -> dict[str, list[Record]]:
    """Write everything; return the records of each file."""
    recipe = Recipe(root, out, seed, limit)
    recipe.copy_images()
    questions, captions = recipe.derived("train")
    validation, _ = recipe.derived("validation")
    heldout, _ = recipe.derived("heldout")
    text = common_text(root, dictionary, seed)
    files = {
        "stage2_validation": validation,
        "heldout": heldout,
        "vqa_rad_test": recipe.vqa_rad_records(recipe.test_rows, "test"),
    }
    for variant, excluded in recipe.variants().items():
        suffix = f"_{variant}" if variant else ""
        rows = [
            row
            for row in recipe.train_rows
            if f"images/vqa_rad/{row['image_name']}" not in excluded
        ]
        own = recipe.vqa_rad_records(rows, "train") + without(questions, excluded)
        shown = without(captions, excluded) + recipe.vqa_rad_captions(rows)
        files[f"stage1{suffix}"] = shown
        files["tune_train" if variant == "tune" else f"stage2{suffix}_train"] = own
        if variant == "tune":
            aside = [row for row in recipe.train_rows if row not in rows]
            files["tune_validation"] = recipe.vqa_rad_records(aside, "validation")
        lines = sorted(set(language_lines(own, shown, rows, recipe) + text))
        rng_for(seed, "lines").shuffle(lines)
        with atomic_open(out / f"language{suffix}.txt") as file:
            file.write("\n".join(lines) + "\n")
    for name, records in files.items():
        write_records(out / f"{name}.jsonl", records)
    return files


def print_counts(files: dict[str, list[Record]], out: Path) -> None:
    """A table of files and a table of the derived questions by task."""
    print(f"{'file':26}{'records':>9}{'images':>8}{'closed':>8}{'open':>8}")
    for name, records in sorted(files.items()):
        kinds = Counter(record.answer_type for record in records)
        images = len({record.image for record in records})
        closed, free = kinds["CLOSED"], kinds["OPEN"]
        print(f"{name + '.jsonl':26}{len(records):9}{images:8}{closed:8}{free:8}")
    for path in sorted(out.glob("language*.txt")):
        print(f"{path.name:26}{len(path.read_text('utf-8').splitlines()):9} lines")
    columns = ("stage2_train", "stage2_validation", "heldout")
    print(f"\n{'task':18}{'source':14}" + "".join(f"{name:>19}" for name in columns))
    counts = {n: Counter((r.tags["task"], r.source) for r in files[n]) for n in columns}
    for task, source in sorted(set().union(*counts.values())):
        numbers = "".join(f"{counts[name][task, source]:19}" for name in columns)
        print(f"{task:18}{source:14}{numbers}")


def main() -> None:
    """Parse the arguments and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write, for example runs/tiny/data")
    default = os.environ.get("BIOD2C_DATA", "../shared/data")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder of the data sets")
    parser.add_argument("--dictionary", type=Path, help="data folder of radiology-semantic-dict")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.root / "vqa_rad" / "trainset.json").exists():
        parser.error(f"no VQA-RAD below {arguments.root}; set BIOD2C_DATA or --root")
    files = build(arguments.root, arguments.out, arguments.seed, arguments.dictionary)
    print_counts(files, arguments.out)


if __name__ == "__main__":
    main()
