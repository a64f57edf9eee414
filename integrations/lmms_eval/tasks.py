"""Tasks for lmms-eval: VQA-RAD, SLAKE, PathVQA or any records, scored by conventions of biod2c.

lmms-eval asks its models; questions, images and scores come from here. It loads this file for each
function that a YAML file names, so nothing is shared between them but what is read again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from biod2c_core.atomic import atomic_open
from biod2c_core.data.formats import ReadOptions, image_root, read_records
from biod2c_core.data.images import load_image
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.locate import find_data
from biod2c_core.evaluation.predict.choices import asked_question
from biod2c_core.evaluation.predict.predict import shuffle_images
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.profiles.base import QuestionScorer
from biod2c_core.evaluation.score.score import check_scorable

RECORDS_VARIABLE = "BIOD2C_RECORDS"
SPLIT_VARIABLE = "BIOD2C_SPLIT"
PREDICTIONS_VARIABLE = "BIOD2C_PREDICTIONS"
# Of each convention the columns that papers quote; all others: BIOD2C_PREDICTIONS, --profile all
_MULTIMEDEVAL = ("closed_accuracy", "open_accuracy", "bleu_1", "token_recall")
_LLAVA_MED = ("closed_accuracy_by_type", "open_recall_by_type")
FREE = {
    "multimedeval": _MULTIMEDEVAL,
    "medevalkit": ("closed_accuracy", "open_exact", "accuracy"),
    "llava-med": _LLAVA_MED,
}
SLAKE = {
    "multimedeval": _MULTIMEDEVAL,
    "medevalkit-slake": ("closed_accuracy_by_type", "open_exact", "accuracy"),
    "lmms-slake": ("accuracy",),
    "llava-med": _LLAVA_MED,
}
RECORDS = {
    "multimedeval": _MULTIMEDEVAL,
    "medevalkit-mcq": ("choice_accuracy",),
    "vlmevalkit-mcq": ("choice_accuracy",),
    "omnimedvqa": ("choice_accuracy",),
}
PREDICTIONS = "predictions"
BLANK, SHUFFLED = "blank", "shuffled"
SHUFFLE_SEED = 0
_GREY = (128, 128, 128)
_scoring = threading.Lock()  # lmms-eval scores in threads; a rule may keep what it compares with


def _records(data: str, language: str = "en") -> tuple[Path, list[Record]]:
    """The path of a data set, and the questions of its split, in order."""
    if data == RECORDS_VARIABLE:
        named = os.environ.get(RECORDS_VARIABLE)
        if not named:
            raise InputError(f"{RECORDS_VARIABLE} is not set", "Set it to a file of records.")
        path, split = Path(named), os.environ.get(SPLIT_VARIABLE, "test")
    else:
        path, split = find_data(data), "test"
    options = ReadOptions(language=language)
    records = read_records(path, split=None if split == "all" else split, options=options)
    check_scorable(records)
    return path, records


def _questions(
    _placeholder: datasets.Dataset, data: str, language: str = "en", control: str = ""
) -> datasets.Dataset:
    """Our questions in place of the line that the task names as its data."""
    path, found = _records(data, language)
    shown = shuffle_images(found, SHUFFLE_SEED) if control == SHUFFLED else found
    rows = [
        {
            "id": record.id,
            "data": data,
            "language": language,
            "control": control,
            "image_root": str(image_root(path).absolute()),
            "image_name": record.image,
            "question": asked_question(record),
            "answer": record.answer,
        }
        for record in shown
    ]
    return datasets.Dataset.from_list(rows)


vqa_rad = partial(_questions, data="vqa-rad")
vqa_rad_blank = partial(vqa_rad, control=BLANK)
vqa_rad_shuffled = partial(vqa_rad, control=SHUFFLED)
slake_en = partial(_questions, data="slake")
slake_en_blank = partial(slake_en, control=BLANK)
slake_en_shuffled = partial(slake_en, control=SHUFFLED)
slake_zh = partial(_questions, data="slake", language="zh")
path_vqa = partial(_questions, data="path-vqa")
path_vqa_blank = partial(path_vqa, control=BLANK)
path_vqa_shuffled = partial(path_vqa, control=SHUFFLED)
records = partial(_questions, data=RECORDS_VARIABLE)


def picture(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The image of a question; for the control ``blank`` a grey one of its size."""
    shown = load_image(doc["image_name"], root=doc["image_root"])
    return [Image.new("RGB", shown.size, _GREY) if doc["control"] == BLANK else shown]


def question(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None
) -> str:
    """The question, with its choices, between the prompts of the task."""
    prompts = lmms_eval_specific_kwargs or {}
    return f"{prompts.get('pre_prompt', '')}{doc['question']}{prompts.get('post_prompt', '')}"


@lru_cache(maxsize=4)
def _rules(
    data: str, language: str, profiles: tuple[str, ...]
) -> tuple[dict[str, Record], dict[str, QuestionScorer]]:
    """The records by id, and the rule of each profile."""
    _, found = _records(data, language)
    rules = {name: get_profile(name).prepare(found) for name in profiles}
    return {record.id: record for record in found}, rules


def metric_name(profile: str, column: str) -> str:
    """What a column is called, by its label everywhere: ``multimedeval closed ACC``."""
    labels = {metric.key: metric.label for metric in get_profile(profile).metrics}
    return f"{profile} {labels[column]}"


def _scores(
    doc: Mapping[str, Any], results: list[str], columns: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """The columns that apply to a question, and its answer, for the predictions file."""
    answer, values = results[0], {}
    with _scoring:
        by_id, rules = _rules(doc["data"], doc["language"], tuple(columns))
        for name, wanted in columns.items():
            found = rules[name](by_id[doc["id"]], answer)
            values |= {metric_name(name, key): found[key] for key in wanted if key in found}
    kinds = ("records" if doc["data"] == RECORDS_VARIABLE else doc["data"], doc["control"])
    file = "-".join(filter(None, (*kinds, doc["language"].replace("en", ""))))
    return {**values, PREDICTIONS: {"id": doc["id"], "answer": answer, "file": file}}


free_scores = partial(_scores, columns=FREE)
slake_scores = partial(_scores, columns=SLAKE)
record_scores = partial(_scores, columns=RECORDS)


def write_predictions(items: Iterable[Mapping[str, str]]) -> int:
    """Write the answers where ``BIOD2C_PREDICTIONS`` says, for ``biod2c evaluate --predictions``.

    Returns:
        How many there are.
    """
    answers = list(items)
    if folder := os.environ.get(PREDICTIONS_VARIABLE):
        with atomic_open(Path(folder) / f"{answers[0]['file']}.jsonl") as file:
            for each in answers:
                row = {"id": each["id"], "answer": each["answer"]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(answers)
