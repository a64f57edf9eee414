"""Pictures that show nothing, so that the model learns to be unsure about them.

A question about a blank picture has no right answer. Each gets an answer drawn at random from those
that its kind of question has elsewhere: the best that the model can learn is to spread its belief.
They have no queue, since nothing is known of the picture.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from sources import rng_for

from biod2c_core.data.records import Record

SIZE = 256  # pixels
KINDS = ("grey", "colour", "noise", "ramp")
YES_NO = ("yes", "no")


def blank_picture(kind: str, seed: int) -> Image.Image:
    """A picture of one colour, of noise, or with a brightness ramp."""
    rng = np.random.default_rng(seed)
    if kind == "grey":
        pixels = np.full((SIZE, SIZE, 3), rng.integers(0, 256))
    elif kind == "colour":
        pixels = np.broadcast_to(rng.integers(0, 256, 3), (SIZE, SIZE, 3))
    elif kind == "noise":
        level = rng.normal(rng.uniform(40, 215), rng.uniform(5, 60), (SIZE, SIZE, 1))
        pixels = np.repeat(level, 3, axis=2)
    else:
        ramp = np.linspace(*rng.uniform(0, 255, 2), SIZE)
        pixels = np.repeat(np.tile(ramp, (SIZE, 1))[..., None], 3, axis=2)
        pixels = np.rot90(pixels, rng.integers(4))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def topic(record: Record) -> tuple[str, str]:
    """What kind of answer a question wants."""
    if record.answer.lower() in YES_NO:
        return ("yes or no", "")
    return (record.tags["task"], record.tags.get("topic", record.tags.get("question_type", "")))


def blank_records(
    records: list[Record],
    out: Path,
    part: str,
    count: int,
    pictures: int,
    seed: int,
    answers: int = 1,
) -> list[Record]:
    """Questions of a part, asked about blank pictures, with answers drawn at random.

    Args:
        records: The part's questions.
        out: The image root; the pictures go to ``images/blank``.
        part: Names the pictures and records.
        count: Questions to make.
        pictures: Pictures to share among them.
        seed: Of every draw.
        answers: Records of each question, 1 or 2; with two, yes and no come once each.
    """
    known = defaultdict(list)
    for record in records:
        known[topic(record)].append(record.answer)
    rng = rng_for(seed, "blank", part)
    images = []
    for number in range(pictures):
        image = f"images/blank/{part}-{number:03}.png"
        (out / image).parent.mkdir(parents=True, exist_ok=True)
        kind = KINDS[number % len(KINDS)]
        blank_picture(kind, rng.getrandbits(32)).save(out / image)
        images.append(image)
    made = []
    for number, record in enumerate(rng.choices(records, k=count)):
        image = rng.choice(images)
        if topic(record)[0] == "yes or no":
            drawn = rng.sample(YES_NO, k=answers)
        else:
            drawn = [rng.choice(known[topic(record)]) for _ in range(answers)]
        for nth, answer in enumerate(drawn):
            made.append(
                Record(
                    id=f"blank/{part}-{number}" + (f"-{nth}" if nth else ""),
                    image=image,
                    question=record.question,
                    answer=answer,
                    answer_type=record.answer_type,
                    source="blank",
                    split=record.split,
                    tags={"task": "blank", "base": image},
                )
            )
    return made
