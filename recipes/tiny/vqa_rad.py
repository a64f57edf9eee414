"""VQA-RAD's rows as records, with captions and queues from the other train rows of an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from captions import facts_of, opening
from derived import caption_record
from queues import build_queue, related
from rewording import rewordings
from sources import Picture, rng_for
from statements import sentence, statement

from biod2c_core.data.records import Record

FOLDER = "images/vqa_rad"
CAPTIONS = 3  # captions for each image, of different facts
REWORDINGS = 6  # of each question, at most
Row = dict[str, str]


def image_path(row: Row, folder: str = FOLDER) -> str:
    """The image of a row, relative to the image root; ``folder`` is where the recipe has them."""
    return f"{folder}/{row['image_name']}"


def statements_by_image(rows: list[Row], folder: str = FOLDER) -> dict[str, list[tuple[str, str]]]:
    """For each image path its (question, statement) pairs."""
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        if text := statement(row["question"], row["answer"]):
            said[image_path(row, folder)].append((row["question"], text))
    return said


def captions(pictures: list[Picture], rows: list[Row], seed: int) -> list[Record]:
    """Captions from the statements that these rows make."""
    made = []
    for picture, number, sentences, _ in chosen_statements(pictures, rows, seed):
        text = " ".join([opening(picture), *sentences])
        name, image = f"{picture.name}/facts", picture.image
        made.append(caption_record(name, image, image, text, seed, number + 1))
    return made


def chosen_statements(
    pictures: list[Any], rows: list[Row], seed: int, folder: str = FOLDER
) -> Iterator[tuple[Any, int, list[str], Random]]:
    """Picture, number of the caption, three to six sentences for it, and their generator."""
    said = statements_by_image(rows, folder)
    for picture in pictures:
        facts = list(dict.fromkeys(text for _, text in said.get(picture.image, [])))
        for number in range(CAPTIONS if facts else 0):
            rng = rng_for(seed, "facts", picture.name, number)
            chosen = rng.sample(facts, min(len(facts), rng.randint(3, 6)))
            yield picture, number, [*map(sentence, chosen)], rng


def train_records(
    pictures: list[Any],
    rows: list[Row],
    seed: int,
    known: Callable[[Any], list[tuple[str, str]]] = facts_of,
    folder: str = FOLDER,
) -> list[Record]:
    """Train rows with queues: other facts of the image, then phrases about the same organ."""
    said = statements_by_image(rows, folder)
    labels = {picture.image: [text for _, text in known(picture)] for picture in pictures}
    by_organ: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        text = statement(row["question"], row["answer"]) or row["answer"]
        if len(text.split()) <= 8:
            by_organ[row["image_organ"]].add(text)
    others = {organ: sorted(texts) for organ, texts in by_organ.items()}
    records = []
    for row in rows:
        record = plain_record(row, "train", folder)
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


def plain_record(row: Row, split: str, folder: str = FOLDER) -> Record:
    """One row of VQA-RAD without a queue."""
    image = image_path(row, folder)
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
