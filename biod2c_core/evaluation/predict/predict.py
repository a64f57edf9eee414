"""Answer every question of a data set with a model, into a predictions file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from biod2c_core.contents import pictures_checksum
from biod2c_core.data.images import check_image_file, load_image, resolve_image
from biod2c_core.data.read_ahead import read_ahead
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError, InputError, PartialResultError
from biod2c_core.evaluation.predict.answers import AnswersQuestions, NoAnswer, SeesSquares
from biod2c_core.evaluation.predict.asking import USUAL, Asked, Asking
from biod2c_core.evaluation.predict.predictions_file import (
    Prediction,
    PredictionLog,
    check_same_run,
    read_predictions,
    shard_path,
    split_checksum,
)
from biod2c_core.evaluation.predict.prompts import worded
from biod2c_core.ops.square import square
from biod2c_core.workers import spare_cores

QUESTIONS_AT_ONCE = 32


def shuffle_images(records: Sequence[Record], seed: int) -> list[Record]:
    """Give each question the image of another question, never its own image.

    Scores that survive this control do not come from seeing the image.

    Args:
        records: The questions.
        seed: Equal seeds give equal pairings.

    Raises:
        InputError: More than half of the questions are about one image, so no such pairing exists.
    """
    images = [record.image for record in records]
    most = max(Counter(images).values(), default=0)
    if 2 * most > len(images):
        raise InputError(
            f"cannot shuffle images: {most} of {len(images)} questions share one image",
            "Use data with more images.",
        )
    generator = random.Random(seed)
    # Questions in random order but grouped by image: a rotation by the largest group moves each
    # question out of its own group, whatever the group sizes.
    rank = {image: generator.random() for image in sorted(set(images))}
    order = sorted(range(len(images)), key=lambda i: (rank[images[i]], generator.random()))
    offset = generator.randint(most, len(images) - most)
    donors = dict(zip(order, order[offset:] + order[:offset], strict=True))
    return [replace(record, image=images[donors[i]]) for i, record in enumerate(records)]


def batches_by_image(
    records: Sequence[Record], size: int = QUESTIONS_AT_ONCE
) -> Iterator[list[Record]]:
    """Group questions so that those about one image come together.

    Images are ordered by their longest question, so that a batch holds questions of similar length
    and little padding.

    Args:
        records: The questions, in any order.
        size: Questions in a batch at most. Only an image with more questions than fit is met in
            more than one batch.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.image, []).append(record)
    batch: list[Record] = []
    longest = {name: max(len(r.question) for r in group) for name, group in groups.items()}
    for group in sorted(groups.values(), key=lambda group: (longest[group[0].image], group[0].id)):
        if batch and len(batch) + len(group) > size:
            yield batch
            batch = []
        for record in group:
            batch.append(record)
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch


def pictures_of(records: Iterable[Record], image_root: str | Path) -> str | None:
    """Checksum over the content of the pictures; None where one is no image file inside the root."""
    try:
        names = {record.image for record in records}
        paths = {name: check_image_file(resolve_image(image_root, name)) for name in names}
    except ImageError:
        return None
    return pictures_checksum(paths.items())


def run_manifest(
    model: AnswersQuestions,
    records: Sequence[Record],
    image_root: str | Path,
    *,
    checkpoint: str | None,
    shuffle_seed: int | None,
    asking: Asking = USUAL,
) -> dict[str, Any]:
    """Who answers what in a prediction run."""
    return {
        "model": model.name,
        "checkpoint": checkpoint,
        "identity": model.identity,
        "data": split_checksum(records),
        "pictures": pictures_of(records, image_root),
        "shuffle_seed": shuffle_seed,
        **asking.manifest(),
    }


def predict(
    model: AnswersQuestions,
    records: Sequence[Record],
    image_root: str | Path,
    path: str | Path,
    *,
    checkpoint: str | None = None,
    shuffle_seed: int | None = None,
    asking: Asking = USUAL,
    limit: int | None = None,
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Answer the questions that the predictions file does not answer yet.

    Killed at any moment and started again, no question is answered twice and none is lost.

    Args:
        model: Who answers.
        records: The questions.
        image_root: Folder that the image paths are relative to.
        path: The predictions file, created or resumed.
        checkpoint: How the model was named, so that a resume can load it again.
        shuffle_seed: With a number, every question is asked about another question's image.
        asking: With which picture, and whether answers are drawn.
        limit: Ask only so many questions now, the first.
        shard: Index of this process and number of processes; with several, each writes a file of
            its own (``shard_path``).
        workers: Processes that read pictures ahead, for a model that says in which size it sees
            them; by default none on CPU, and on a GPU those that have a core of their own.
        advance: Called with the number of questions done, those of an earlier run included.

    Raises:
        InputError: The file belongs to another run, or an image cannot be read.
        PartialResultError: The model gave no answer to some questions; the others are in the file.
    """
    # the pictures of all questions are shuffled, so that a limit changes no question
    asked = list(records) if shuffle_seed is None else shuffle_images(records, shuffle_seed)
    manifest = run_manifest(
        model,
        records,
        image_root,
        checkpoint=checkpoint,
        shuffle_seed=shuffle_seed,
        asking=asking,
    )
    if asking != USUAL:
        model = Asked(model, asking)
    index, count = shard
    side, workers = _reading(model, workers, count)
    done: Collection[str] = ()
    if count > 1:
        check_same_run(path, manifest)
        done = read_predictions(path) if Path(path).exists() else ()
    failures: list[str] = []
    with PredictionLog(path if count == 1 else shard_path(path, index), manifest) as log:
        advance(sum(record.id in log.done for record in asked[:limit]))
        known = set(done) | set(log.done)
        todo = [record for record in asked[:limit] if record.id not in known]
        batches = list(batches_by_image(todo))[index::count]
        names = [list(dict.fromkeys(record.image for record in batch)) for batch in batches]
        read = partial(_read, root=Path(image_root), side=side)
        pictures = read_ahead(read, names, workers)
        for batch, images in zip(batches, pictures, strict=True):
            log.append(_answer(model, batch, images, asking.prompt, failures))
            advance(len(batch))
    if failures:
        raise PartialResultError(
            f"{len(failures)} of {len(records)} questions have no answer, the first because of "
            f"{failures[0]}",
            "Run the same command again to ask them again.",
        )


def _reading(
    model: AnswersQuestions, workers: int | None, processes: int
) -> tuple[int | None, int]:
    """The side of the squares that a model sees, if it says so, and how many workers read ahead."""
    if not isinstance(model, SeesSquares):
        return None, 0
    if workers is None:
        workers = spare_cores(1, processes) if model.on_gpu else 0
    return model.picture_side, workers


def _read(names: Sequence[str], root: Path, side: int | None) -> list[Image.Image]:
    """Pictures of these names, made squares of a side if one is given."""
    images = [load_image(name, root=root) for name in names]
    return images if side is None else [Image.fromarray(square(each, side)) for each in images]


def _answer(
    model: AnswersQuestions,
    batch: Sequence[Record],
    images: Sequence[Image.Image],
    prompt: str | None,
    failures: list[str],
) -> list[Prediction]:
    """Answers to questions about some images, which come in the order in which they are met."""
    names = dict.fromkeys(record.image for record in batch)
    place = {name: index for index, name in enumerate(names)}
    questions = [(place[record.image], worded(record, prompt)) for record in batch]
    found = []
    for record, answer in zip(batch, model.answer_images(images, questions), strict=True):
        if isinstance(answer, NoAnswer):
            failures.append(answer.reason)
        else:
            known = getattr(answer, "familiarity", None)  # only checkpoints tell it
            found.append(Prediction(record.id, answer.text, answer.confidence, familiarity=known))
    return found
