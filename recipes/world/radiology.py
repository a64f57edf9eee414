"""VQA-RAD's rows in this recipe: its own folder, and what its facts and sentences say of a picture."""

from __future__ import annotations

import vqa_rad
from pictures import Picture
from questions import WORDINGS, phrases_about, sentence_about
from vqa_rad import Row, reworded_records

from biod2c_core.data.records import Record

FOLDER = "vqa_rad/images"
__all__ = ["captions", "image_path", "plain_record", "reworded_records", "train_records"]


def image_path(row: Row) -> str:
    """The image of a row, relative to the image root."""
    return vqa_rad.image_path(row, FOLDER)


def plain_record(row: Row, split: str) -> Record:
    """One row without a queue."""
    return vqa_rad.plain_record(row, split, FOLDER)


def train_records(pictures: list[Picture], rows: list[Row], seed: int) -> list[Record]:
    """Train rows with queues: other facts of the image, then phrases about the same organ."""
    return vqa_rad.train_records(pictures, rows, seed, phrases_about, FOLDER)


def captions(pictures: list[Picture], rows: list[Row], seed: int) -> list[Record]:
    """Captions from the statements that these rows make."""
    made = []
    for picture, number, sentences, rng in vqa_rad.chosen_statements(pictures, rows, seed, FOLDER):
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
