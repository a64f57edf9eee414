"""VQA-RAD: its rows, what they and its publication tell of its pictures, and the records made of them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from pictures import Picture, rng_for
from PIL import Image
from questions import WORDINGS, phrases_about, sentence_about
from queues import build_queue, related
from rewording import rewordings
from statements import sentence, statement

from biod2c_core.data.records import Record

FOLDER = "vqa_rad/images"
CAPTIONS = 3  # captions for each image, of different facts
REWORDINGS = 6  # of each question, at most
ORGANS = {"HEAD": "brain", "CHEST": "chest", "ABD": "abdomen"}
# What the publication of VQA-RAD says of all its images; of a head it may be CT or MRI.
MODALITY_WORDS = {
    "MRI": r"\bmri?\b|flair|\bt[12]\b|\bdwi\b|diffusion|\badc\b",
    "CT": r"\bct\b|computed",
    "X-ray": r"x[- ]?ray|radiograph|\bcxr\b|\bfilm\b",
}
PUBLISHED = {"CHEST": {"modality": "X-ray"}, "ABD": {"modality": "CT", "plane": "axial"}}
Row = dict[str, str]


def read_vqa_rad(root: Path) -> tuple[list[Row], list[Row]]:
    """VQA-RAD's official train and test rows, blanks and tabs cleaned, numbers as text."""
    both = []
    for name in ("trainset.json", "testset.json"):
        rows = json.loads((root / "vqa_rad" / name).read_text("utf-8"))
        both.append([{key: " ".join(str(row[key]).split()) for key in row} for row in rows])
    return both[0], both[1]


def told_modality(rows: list[Row]) -> str:
    """The modality that the questions about one image give away; empty when they disagree."""
    told = set()
    for row in rows:
        question, answer = row["question"].lower(), row["answer"].lower()
        asked = "modality" in question or "MODALITY" in row["question_type"]
        text = answer if asked and answer not in ("yes", "no") else ""
        premise = re.search(r"(?:this|the) (mri|ct|x-?ray|chest x-?ray)\b", question)
        if premise and "is this" not in question:
            text += f" {premise[1]}"
        if answer == "yes" and (match := re.match(r"is this an? (.*)", question)):
            text += f" {match[1]}"
        told |= {name for name, words in MODALITY_WORDS.items() if re.search(words, text)}
    return told.pop() if len(told) == 1 else ""


def vqa_rad_pictures(root: Path, rows: list[Row]) -> list[Picture]:
    """The images of these rows, labelled by organ, by the publication, and by these rows."""
    rows_of: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of[row["image_name"]].append(row)
    pictures = []
    for name, own in sorted(rows_of.items()):
        with Image.open(root / FOLDER / name) as image:
            size = image.size
        region = own[0]["image_organ"]
        labels = {"organ": ORGANS[region], **PUBLISHED.get(region, {})}
        told = told_modality(own)
        if told and labels.setdefault("modality", told) != told:
            labels = {"organ": ORGANS[region], "modality": told}
        pictures.append(Picture("vqa_rad", f"{FOLDER}/{name}", size, labels))
    return pictures


def image_path(row: Row) -> str:
    """The image of a row, relative to the image root."""
    return f"{FOLDER}/{row['image_name']}"


def statements_by_image(rows: list[Row]) -> dict[str, list[tuple[str, str]]]:
    """For each image path its (question, statement) pairs."""
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        if text := statement(row["question"], row["answer"]):
            said[image_path(row)].append((row["question"], text))
    return said


def chosen_statements(
    pictures: list[Picture], rows: list[Row], seed: int
) -> Iterator[tuple[Picture, int, list[str], Random]]:
    """Picture, number of the caption, three to six sentences for it, and their generator."""
    said = statements_by_image(rows)
    for picture in pictures:
        facts = list(dict.fromkeys(text for _, text in said.get(picture.image, [])))
        for number in range(CAPTIONS if facts else 0):
            rng = rng_for(seed, "facts", picture.name, number)
            chosen = rng.sample(facts, min(len(facts), rng.randint(3, 6)))
            yield picture, number, [*map(sentence, chosen)], rng


def captions(pictures: list[Picture], rows: list[Row], seed: int) -> list[Record]:
    """Captions from the statements that these rows make."""
    made = []
    for picture, number, sentences, rng in chosen_statements(pictures, rows, seed):
        text = " ".join([sentence_about(picture), *sentences])
        made.append(
            Record(
                id=f"{picture.name}/facts-{number + 1}",
                image=picture.image,
                question=rng.choice(WORDINGS["describe"]["asked"]),
                answer=text,
                caption=text,
                source=picture.source,
                split="train",
                tags={"task": "describe", "base": picture.image},
            )
        )
    return made


def train_records(
    pictures: list[Picture],
    rows: list[Row],
    seed: int,
) -> list[Record]:
    """Train rows with queues: other facts of the image, then phrases about the same organ."""
    said = statements_by_image(rows)
    labels = {picture.image: [text for _, text in phrases_about(picture)] for picture in pictures}
    by_organ: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        text = statement(row["question"], row["answer"]) or row["answer"]
        if len(text.split()) <= 8:
            by_organ[row["image_organ"]].add(text)
    others = {organ: sorted(texts) for organ, texts in by_organ.items()}
    records = []
    for row in rows:
        record = plain_record(row, "train")
        own = [text for q, text in said[record.image] if not related(q, record.question)]
        rng = rng_for(seed, "queue", record.id)
        facts = labels[record.image] + own
        queue = build_queue(record.answer, facts, others[row["image_organ"]], rng)
        records.append(replace(record, queue=queue))
    return records


def reworded_records(records: list[Record], seed: int) -> list[Record]:
    """Each question up to ``REWORDINGS`` times in other words, with the answer and the queue it has."""
    return [
        replace(record, id=f"{record.id}-reworded-{number}", question=question)
        for record in records
        for number, question in enumerate(
            rewordings(record.question, REWORDINGS, rng_for(seed, "reworded", record.id)), 1
        )
    ]


def plain_record(row: Row, split: str) -> Record:
    """One row of VQA-RAD without a queue."""
    image = image_path(row)
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
