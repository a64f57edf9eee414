"""VQA-RAD's rows as records, with captions and queues from the other train rows of an image."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from random import Random

from pictures import Picture
from questions import WORDINGS, phrases_about, sentence_about
from queues import build_queue, related
from rewording import rewordings
from sources import rng_for
from statements import sentence, statement

from biod2c_core.data.records import Record

CAPTIONS = 3  # captions for each image, of different facts
REWORDINGS = 6  # of each question, at most
Row = dict[str, str]


def image_path(row: Row) -> str:
    """The image of a row, relative to the image root."""
    return f"vqa_rad/images/{row['image_name']}"


def statements_by_image(rows: list[Row]) -> dict[str, list[tuple[str, str]]]:
    """For each image path its (question, statement) pairs."""
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        if text := statement(row["question"], row["answer"]):
            said[image_path(row)].append((row["question"], text))
    return said


def captions(pictures: list[Picture], rows: list[Row], seed: int) -> list[Record]:
    """Captions from the statements that these rows make."""
    said = statements_by_image(rows)
    made = []
    for picture in pictures:
        facts = list(dict.fromkeys(text for _, text in said.get(picture.image, [])))
        for number in range(CAPTIONS if facts else 0):
            rng = rng_for(seed, "facts", picture.name, number)
            chosen = rng.sample(facts, min(len(facts), rng.randint(3, 6)))
            text = " ".join([sentence_about(picture), *map(sentence, chosen)])
            made.append(_caption(picture, text, number + 1, rng))
    return made


def _caption(picture: Picture, text: str, number: int, rng: Random) -> Record:
    return Record(
        id=f"{picture.name}/facts-{number}",
        image=picture.image,
        question=rng.choice(WORDINGS["describe"]["asked"]),
        answer=text,
        caption=text,
        source=picture.source,
        split="train",
        tags={"task": "describe", "base": picture.image},
    )


def train_records(pictures: list[Picture], rows: list[Row], seed: int) -> list[Record]:
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
