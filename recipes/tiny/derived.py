"""Records and captions of the derived sets: labels, crops and drawn arrows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from arrow_images import ArrowMaker, ArrowPicture
from arrows import arrow_questions, presence_question
from captions import caption_of, facts_of
from derive import Question, balanced, questions_of
from queues import build_queue
from sources import Picture, PixelBox, rng_for
from vessels import contrast_pictures

from biod2c_core.data.records import Record, ShareBox

INSTRUCTIONS = (
    "Describe the image.",
    "What does the image show?",
    "Write a caption for this image.",
    "Describe this medical image briefly.",
)
CAPS = {"train": 60, "validation": 12, "heldout": 40}  # questions of one answer of one topic
PLACE_CAP = 120  # of one place, in training: the same for the turned copies
PLACES = ("quadrant", "side")
WHOLE_CAP = 180  # of one answer of one topic, among the further questions about whole images
CONTRAST_CAP = 1500  # of yes and of no, about parts of CT slices and vessels drawn into them
WHOLE = ("modality", "organ", "stain")
# What few images show: it has to be met more often.
SCARCE = ("contrast", "count", "finding", "plane", "presence", "size")
AIMED = {  # arrow images for each target of a source
    "train": {"blood_cells": 300, "endoscopy": 380, "nuclei": 380},
    "validation": {"blood_cells": 12, "endoscopy": 16, "nuclei": 16},
    "heldout": {"blood_cells": 40, "endoscopy": 60, "nuclei": 60},
}
PAIRED = {"blood_cells": 250, "endoscopy": 380, "nuclei": 380}  # further ones with two arrows
# Still more of either kind, also on crops and turned copies, in each of two sets: what an arrow points to
# is else known by heart on the images of training.
FURTHER = {"blood_cells": 1000, "endoscopy": 1000, "nuclei": 700}
TWO_OF_FURTHER = 0.6  # share of them with two arrows
ANYWHERE = {"train": 1000, "validation": 40, "heldout": 120}
Asked = list[tuple[Picture | ArrowPicture, Question]]
Made = tuple[list[Record], list[Record]]


def derive_part(
    pictures: list[Picture],
    crops: list[Picture],
    turned: list[Picture],
    part: str,
    folder: Path,
    seed: int,
    scale: float,
) -> Made:
    """All questions and captions of a part.

    Args:
        pictures: The images of the part, below ``folder``.
        crops: Parts cut out of them.
        turned: Mirrored and turned copies of them; only places are asked of these, and captions made.
        part: ``train``, ``validation`` or ``heldout``.
        folder: The image root; arrow images are written below it.
        seed: Of every draw.
        scale: Share of the usual number of arrow images.

    Returns:
        Question records and caption records.
    """
    known = {picture.name: facts_of(picture) for picture in [*pictures, *crops, *turned]}
    words = sorted({text for facts in known.values() for _, text in facts})
    asked = [(p, q) for p in [*pictures, *crops] for q in questions_of(p, seed)]
    asked = balanced(asked, CAPS[part], seed)
    places = [(p, q) for p in turned for q in questions_of(p, seed) if q.task in PLACES]
    asked += balanced(places, PLACE_CAP, seed)
    if part != "train":  # a topic with one answer tests nothing
        answers = Counter(topic for topic, _ in {(q.topic, q.answer) for _, q in asked})
        asked = [(p, q) for p, q in asked if answers[q.topic] > 1]
    records = question_records(asked, known, words, part, seed)
    placed = list({p.name: p for p, _ in places}.values())
    captions = [
        caption_record(p.name, p.image, p.origin, caption_of(p), seed)
        for p in [*pictures, *crops, *placed]
    ]
    arrow_records, arrow_captions = _arrows(pictures, part, folder, seed, scale, words)
    return records + arrow_records, captions + arrow_captions


def whole_image_records(pictures: list[Picture], part: str, seed: int) -> list[Record]:
    """Further questions about what an image is as a whole, and about what few images show.

    A yes or no about a named modality or organ compares a word with the image, and takes far more
    examples to learn than to name what is seen.

    Args:
        pictures: The images of the part and the parts cut out of them.
        part: In training three times as many questions as elsewhere; else about planes only, for
            which :func:`derive_part` has no two answers.
        seed: Of every draw.
    """
    tasks, cap = ((*WHOLE, *SCARCE), WHOLE_CAP) if part == "train" else (("plane",), CAPS[part])
    known = {picture.name: facts_of(picture) for picture in pictures}
    words = sorted({text for facts in known.values() for _, text in facts})
    asked = [(p, q) for p in pictures for q in questions_of(p, seed) if q.task in tasks]
    records = question_records(balanced(asked, cap, seed), known, words, part, seed)
    return [replace(record, id=f"{record.id}-whole") for record in records]


def _arrows(
    pictures: list[Picture], part: str, folder: Path, seed: int, scale: float, words: list[str]
) -> Made:
    maker = ArrowMaker(folder, seed)
    drawn = list(maker.aimed(pictures, {s: round(scale * n) for s, n in AIMED[part].items()}))
    drawn += maker.anywhere(pictures, round(scale * ANYWHERE[part]))
    asked = _asked_of_arrows(drawn, seed)
    asked += [(p, presence_question(p, "no")) for p in pictures if p.source != "vqa_rad"]
    asked = fair_arrows(asked, CAPS[part], seed)
    known = {picture.name: arrow_facts(picture) for picture in drawn}
    known.update({picture.name: facts_of(picture) for picture in pictures})
    words = sorted({*words, *(text for p in drawn for _, text in known[p.name])})
    records = question_records(asked, known, words, part, seed)
    captions = [caption_record(p.name, p.image, p.base.origin, p.caption(), seed) for p in drawn]
    return records, captions


def _asked_of_arrows(drawn: list[ArrowPicture], seed: int) -> Asked:
    return [
        (picture, question)
        for picture in drawn
        for question in arrow_questions(
            list(picture.arrows), picture.base, rng_for(seed, "arrow questions", picture.name)
        )
    ]


def pair_records(pictures: list[Picture], folder: Path, seed: int, scale: float) -> list[Record]:
    """Further questions about one of two arrows, for training: what it points to and which way.

    Which of two is meant is learned from many images only: those of :func:`derive_part` are few.

    Args:
        pictures: The training images, below ``folder``, where the arrow images are written.
        folder: The image root.
        seed: Of every draw.
        scale: Share of the usual number of arrow images.
    """
    numbers = {source: round(scale * number) for source, number in PAIRED.items()}
    drawn = list(ArrowMaker(folder, seed).aimed(pictures, numbers, "paired", 1))
    return _of_arrows(drawn, ("arrow", "arrow_direction"), seed)


def further_records(
    pictures: list[Picture], folder: Path, seed: int, scale: float, kind: str
) -> list[Record]:
    """Still more questions about arrows, for training: where each points, which way, and its colour.

    Args:
        pictures: The training images with their crops and turned copies, below ``folder``, where the
            arrow images are written.
        folder: The image root.
        seed: Of every draw.
        scale: Share of the usual number of arrow images.
        kind: Names the set: each has other arrows.
    """
    numbers = {source: round(scale * number) for source, number in FURTHER.items()}
    drawn = list(ArrowMaker(folder, seed).aimed(pictures, numbers, kind, TWO_OF_FURTHER))
    return _of_arrows(drawn, ("arrow", "arrow_direction", "arrow_colour", "arrow_where"), seed)


def contrast_records(pictures: list[Picture], folder: Path, seed: int) -> list[Record]:
    """Further questions about contrast medium, for training, where only the vessels tell.

    Args:
        pictures: The training images, below ``folder``, where the copies are written.
        folder: The image root.
        seed: Of every draw.
    """
    copies = contrast_pictures(pictures, folder, seed)
    known = {picture.name: facts_of(picture) for picture in copies}
    words = sorted({text for facts in known.values() for _, text in facts})
    asked = [(p, q) for p in copies for q in questions_of(p, seed) if q.task == "contrast"]
    return question_records(balanced(asked, CONTRAST_CAP, seed), known, words, "train", seed)


def _of_arrows(drawn: list[ArrowPicture], tasks: tuple[str, ...], seed: int) -> list[Record]:
    asked = [(p, q) for p, q in _asked_of_arrows(drawn, seed) if q.task in tasks]
    known = {picture.name: arrow_facts(picture) for picture in drawn}
    words = sorted({text for facts in known.values() for _, text in facts})
    return question_records(fair_arrows(asked, 0, seed), known, words, "train", seed)


def fair_arrows(asked: Asked, cap: int, seed: int) -> Asked:
    """Each target of a source equally often, so that the source does not tell the answer."""
    kept: Asked = []
    for topic in sorted({question.topic for _, question in asked}):
        inside = [(p, q) for p, q in asked if q.topic == topic]
        numbers = Counter(question.answer for _, question in inside)
        task = inside[0][1].task
        most = {"arrow": min(numbers.values()), "arrow_presence": cap}.get(task, len(inside))
        kept += balanced(inside, most, seed)
    return kept


def arrow_facts(picture: ArrowPicture) -> list[tuple[str, str]]:
    """What is known of an image with arrows: (task, phrase)."""
    facts = facts_of(picture.base)
    for arrow in picture.arrows:
        facts.append(("arrow_colour", f"{arrow.colour} arrow"))
        if arrow.target:
            facts.append(("arrow", f"arrow pointing to {arrow.target}"))
    return facts


def question_records(
    asked: Asked, known: dict[str, list[tuple[str, str]]], words: list[str], part: str, seed: int
) -> list[Record]:
    """Records with queues; the facts that a question asks for stay out of its queue."""
    numbers: Counter[str] = Counter()
    records = []
    for picture, question in asked:
        stem = f"{picture.name}/{question.task}"
        numbers[stem] += 1
        tags = {"task": question.task, "topic": question.topic}
        if isinstance(picture, ArrowPicture):
            base = picture.base
            tags["arrows"] = str(len(picture.arrows))
        else:
            base = picture
        facts = [text for task, text in known[picture.name] if task != question.task]
        rng = rng_for(seed, "queue", stem, numbers[stem])
        record = Record(
            id=f"{stem}-{numbers[stem]}",
            image=picture.image,
            question=question.question,
            answer=question.answer,
            answer_type="CLOSED" if question.closed else "OPEN",
            queue=build_queue(question.answer, facts, words, rng),
            source=base.source,
            split={"heldout": "test"}.get(part, part),
            boxes=tuple(shares(box, base.size) for box in question.seen_in),
            tags={**tags, "base": base.origin},
        )
        records.append(record)
    return records


def shares(box: PixelBox, size: tuple[int, int]) -> ShareBox:
    """A box in pixels as shares of the image's width and height, as records want it."""
    width, height = size
    left, top, right, bottom = box
    parts = (left / width, top / height, right / width, bottom / height)
    return tuple(round(min(1.0, max(0.0, part)), 4) for part in parts)  # type: ignore[return-value]


def caption_record(
    name: str, image: str, base: str, text: str, seed: int, number: int = 1
) -> Record:
    """A stage-1 record: an instruction and the caption as its answer."""
    return Record(
        id=f"{name}/caption-{number}",
        image=image,
        question=rng_for(seed, "instruction", name, number).choice(INSTRUCTIONS),
        answer=text,
        caption=text,
        source=Path(base).parent.name,
        split="train",
        tags={"task": "caption", "base": base},
    )
