"""A data set as a table of VLMEvalKit, for its ``--data NAME``.

Columns by vlmeval/dataset/image_base.py of open-compass/VLMEvalKit: ``index``, ``image`` (base64, or the
index of an earlier row with the same image), ``question``, ``answer``, for multiple choice ``A``, ``B`` ...
``id`` and the tags go with them, so that its results, which keep these columns, can be scored here.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats.benchmarks.vlmevalkit import TAG
from biod2c_core.data.formats.fields.choices import LETTERS
from biod2c_core.data.images import load_image, resolve_image
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.choices import choices_of

SUFFIX = ".tsv"
# What pandas, by which VLMEvalKit reads, takes for an empty cell; a blank behind it prevents that
_GAPS = frozenset(
    [
        *("#N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
        *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)
_MOST_AS_IT_IS = 32 << 20
_ORIENTATION = 0x0112
_DEEP_PNG = 16  # bits a channel, at this place of the file
_DEPTH_AT = 24


def write_table(
    out: str | Path,
    records: Sequence[Record],
    image_root: str | Path,
    advance: Callable[[int], object] = lambda _: None,
) -> int:
    """Write records as one table, atomically; images that are repeated stand in it once.

    Args:
        out: ``NAME.tsv``; VLMEvalKit finds it in its folder ``LMUData`` as ``--data NAME``.
        records: All of them multiple choice, or none.
        image_root: Folder that the image paths are relative to.
        advance: Called with numbers of questions done.

    Returns:
        How many images there are.

    Raises:
        InputError: The name does not end in .tsv, questions of both kinds, or an answer is missing.
        ImageError: An image cannot be read.
    """
    path = Path(out)
    if path.suffix != SUFFIX:
        raise InputError(f"the table is to be called {path.name!r}", f"Call it NAME{SUFFIX}.")
    choices = [choices_of(record) for record in records]
    _check(records, choices)
    letters = [letter for letter in LETTERS if any(letter in each for each in choices)]
    tags = sorted({tag for record in records for tag in _further_tags(record)})
    header = ["index", "id", "image", "question", *letters, "answer", "answer_type", "source"]
    seen: dict[str, int] = {}
    with atomic_open(path) as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow([*header, "split", *(TAG + tag for tag in tags)])
        for index, (record, texts) in enumerate(zip(records, choices, strict=True)):
            first = seen.setdefault(record.image, index)
            image = str(first) if first != index else _picture(record.image, image_root)
            answer = _label(record, texts) if texts else record.answer
            further = _further_tags(record)
            values = [str(index), record.id, image, record.question]
            values += [texts.get(letter, "") for letter in letters]
            values += [answer, record.answer_type, record.source, record.split]
            values += [further.get(tag, "") for tag in tags]
            writer.writerow([f"{text} " if text in _GAPS else text for text in values])
            advance(1)
    return len(seen)


def _check(records: Sequence[Record], choices: Sequence[dict[str, str]]) -> None:
    if not records:
        raise InputError("there is no question to write", "Check the data and --split.")
    kinds = {bool(each) for each in choices}
    if len(kinds) > 1:
        raise InputError(
            "the data has multiple choice and free answers, which VLMEvalKit scores by two classes",
            "Write a table for each.",
        )
    for record, texts in zip(records, choices, strict=True):
        if not record.answer or (texts and not _label(record, texts)):
            raise InputError(
                f"record {record.id!r} has no gold answer that is one of its choices"
                if texts
                else f"record {record.id!r} has no gold answer",
                "Write a split with answers.",
            )


def _label(record: Record, texts: dict[str, str]) -> str:
    label = record.tags.get("answer_label", "").strip().upper()
    if label in texts:
        return label
    return next((letter for letter, text in texts.items() if text == record.answer), "")


def _further_tags(record: Record) -> dict[str, str]:
    return {
        tag: text
        for tag, text in record.tags.items()
        if not tag.startswith("choice_") and tag != "answer_label"
    }


def _picture(name: str, image_root: str | Path) -> str:
    """An image as base64: the bytes of a plain JPEG or PNG, else a PNG of what is shown here."""
    shown = load_image(name, root=image_root)  # also checks that it can be read
    file = resolve_image(Path(image_root), name)
    if file.is_file() and file.stat().st_size <= _MOST_AS_IT_IS:
        data = file.read_bytes()
        if _is_plain(data):
            return base64.b64encode(data).decode()
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _is_plain(data: bytes) -> bool:
    """Whether every program shows an image alike: JPEG or PNG of 8 bits, upright, without alpha."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            deep = image.format == "PNG" and data[_DEPTH_AT] == _DEEP_PNG
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            clear = "transparency" not in image.info
            return image.mode in ("L", "RGB") and upright and clear and not deep
    except (OSError, ValueError, SyntaxError, IndexError):
        return False
