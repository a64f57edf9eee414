"""One evaluation from data to result: predict what is missing, score, write the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biod2c_core.append_log import ends_torn
from biod2c_core.atomic import atomic_open, json_text, write_json
from biod2c_core.data.burnt_text import require_reader
from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.judge.convention import ask_convention
from biod2c_core.evaluation.judge.judge_run import Judging, judge_result
from biod2c_core.evaluation.masked_text import MaskedText, ask_masked
from biod2c_core.evaluation.predict.endpoint_model import EndpointModel
from biod2c_core.evaluation.predict.models import ENDPOINT_PREFIX
from biod2c_core.evaluation.predict.predict import AnswersQuestions, pictures_of, predict
from biod2c_core.evaluation.predict.predictions_file import (
    check_complete,
    manifest_path,
    read_manifest,
    read_predictions,
    same_pictures,
    shard_path,
    split_checksum,
)
from biod2c_core.evaluation.predict.sharding import Job, absorb_shards, predict_on
from biod2c_core.evaluation.report.confidence import confidence_table
from biod2c_core.evaluation.report.html import to_html
from biod2c_core.evaluation.report.positions import positions_table
from biod2c_core.evaluation.report.tables import score_table, to_latex, to_markdown
from biod2c_core.evaluation.score.profiles import DEFAULT_PROFILE, get_profile
from biod2c_core.evaluation.score.score import Evaluation, check_scorable, score
from biod2c_core.evaluation.statistics.analysis import Analysis, TrainingData, analyse
from biod2c_core.evaluation.statistics.intervals import PairedTest, compare

PREDICTIONS_NAME = "predictions.jsonl"


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        data: A data set's folder or file.
        split: Which part of it; None for all.
        predictions: The predictions file, read or written; by default inside ``run``.
        run: Folder for the results; None to write none.
        model: Checkpoint; None for the embedded model, or to score an existing file.
        devices: Where the model runs; with several, a process each.
        profile: Name of the scoring convention.
        shuffle_seed: With a number, questions are asked about other questions' images.
        images: Folder of the images; by default the data's own.
        training: What the model may have learned from, for baselines and the contamination check;
            by default the data's own split ``train``, where it has one.
        judging: How a language model rates the answers; None for not at all. Needs ``run``.
        mask_text: Ask again with the text in the pixels masked, and compare. Needs the model.
    """

    data: Path
    split: str | None = "test"
    predictions: Path | None = None
    run: Path | None = None
    model: str | None = None
    devices: tuple[str, ...] = ("auto",)
    profile: str = DEFAULT_PROFILE
    shuffle_seed: int | None = None
    images: Path | None = None
    training: Path | None = None
    judging: Judging | None = None
    mask_text: bool = False

    @property
    def image_folder(self) -> Path:
        """Where the images are."""
        return self.images or image_root(self.data)

    @property
    def predictions_file(self) -> Path:
        """Where the predictions stand.

        Raises:
            InputError: Neither ``predictions`` nor ``run`` is given.
        """
        if self.predictions is not None:
            return self.predictions
        if self.run is None:
            raise InputError(
                "there is no place for the predictions",
                "Give --predictions FILE or an output folder -o RUN.",
            )
        return self.run / PREDICTIONS_NAME


LoadModel = Callable[[str | None, str], AnswersQuestions]
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def silent(_total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A progress that shows nothing."""
    return nullcontext(lambda _: None)


def only_scores(request: Request, records: Sequence[Record]) -> bool:
    """Whether an existing predictions file is to be scored as it is.

    So it is, unless ``model`` is given, for the file of another system and for a complete one of
    ours. One of ours that was interrupted is resumed.
    """
    path = request.predictions_file
    if request.model is not None or not path.exists() or shard_path(path, 0).exists():
        return False
    manifest = read_manifest(path)
    if manifest is None:
        return request.shuffle_seed is None
    if request.shuffle_seed not in (None, manifest.get("shuffle_seed")):
        return False
    if manifest.get("data") != split_checksum(records):
        return True  # which scoring will refuse, naming what does not fit
    return not ends_torn(path) and len(read_predictions(path)) >= len(records)


def evaluate(
    request: Request,
    load_model: LoadModel,
    progress: Progress = silent,
) -> Analysis:
    """Predict where needed, score, analyse, and write the run folder.

    Args:
        request: What to evaluate.
        load_model: Called with checkpoint and device, only if something must be predicted.
        progress: Given the number of questions, a context whose value is called with each number
            of questions answered, and then judged.

    Raises:
        InputError: Data, predictions or options do not fit.
    """
    profile = get_profile(request.profile)
    if request.judging is not None and request.run is None:
        raise InputError("a judge needs a folder for its verdicts", "Give one: -o RUN.")
    if profile.judge is not None and request.judging is None:
        raise InputError(
            f"the numbers of the profile {profile.name!r} come from a judge",
            "Name the model: --judge MODEL, with -o RUN.",
        )
    if request.mask_text:
        require_reader()  # now, not after hours of predicting
    records, path = answered_questions(request, load_model, progress)
    predictions = read_predictions(path)
    verdicts = None
    if profile.judge is not None and request.judging is not None and request.run is not None:
        check_complete(records, predictions, path)
        verdicts = ask_convention(
            records, predictions, profile, request.judging, request.run, progress
        )
    evaluation = score(
        records,
        predictions,
        profile,
        path,
        verdicts=verdicts.verdicts if verdicts else None,
        judged_by=verdicts.to_dict() if verdicts else None,
    )
    analysis = analyse(
        evaluation,
        predictions=read_manifest(path),
        training=find_training(request),
        image_root=request.image_folder,
    )
    if verdicts is None and request.judging is not None and request.run is not None:
        judged = judge_result(evaluation.questions, request.judging, request.run, progress)
        analysis = replace(analysis, judged=judged)
    if request.mask_text:
        masked = _ask_masked(request, evaluation, load_model, progress)
        analysis = replace(analysis, masked=masked)
    if request.run is not None:
        write_run(request.run, analysis, request.image_folder)
    return analysis


def answered_questions(
    request: Request, load_model: LoadModel, progress: Progress = silent
) -> tuple[list[Record], Path]:
    """The questions of a request, and the file with their answers, predicted where needed.

    Args:
        request: What to evaluate.
        load_model: Called with checkpoint and device, only if something must be predicted.
        progress: Given the number of questions, a context whose value is called with each number of
            questions answered.

    Raises:
        InputError: Data, predictions or options do not fit.
    """
    records = read_records(request.data, split=request.split)
    check_scorable(records)
    path = request.predictions_file
    _check_there(request)
    if not only_scores(request, records):
        _predict(request, records, load_model, progress)
    _check_same_data(path, read_manifest(path), records, request.image_folder)
    return records, path


def _check_there(request: Request) -> None:
    """A predictions file that was named must be there, or a model that makes it."""
    path = request.predictions
    if path is None or request.model is not None or path.exists():
        return
    if not manifest_path(path).exists():  # which an interrupted run has left
        raise InputError(
            f"no predictions at {path}",
            "Check the path, or name the model that is to write them.",
        )


def find_training(request: Request) -> TrainingData | None:
    """The training records of a request; None where none are named and the data has none.

    Raises:
        InputError: The named data has no training records.
    """
    if request.training is not None:
        records = read_records(request.training)
        named = [record for record in records if record.split in ("train", "")]
        if not named:
            raise InputError(f"{request.training} has no training records", "Name others.")
        return TrainingData(named, image_root(request.training))
    if request.split in (None, "train"):
        return None
    records = [record for record in read_records(request.data) if record.split == "train"]
    return TrainingData(records, request.image_folder) if records else None


def _predict(
    request: Request, records: list[Record], load_model: LoadModel, progress: Progress
) -> None:
    path = request.predictions_file
    checkpoint = request.model or (read_manifest(path) or {}).get("checkpoint")
    job = Job(load_model, checkpoint, records, request.image_folder, path, request.shuffle_seed)
    with progress(len(records)) as advance:
        if len(request.devices) > 1:
            if (checkpoint or "").startswith(ENDPOINT_PREFIX):
                raise InputError(f"{checkpoint} runs on no device here", "Leave out --gpus.")
            predict_on(request.devices, job, advance)
            return
        absorb_shards(path)  # of an interrupted run on several devices
        model = load_model(checkpoint, request.devices[0])
        try:
            predict(
                model,
                records,
                job.image_root,
                path,
                checkpoint=checkpoint,
                shuffle_seed=request.shuffle_seed,
                advance=advance,
            )
        finally:
            if isinstance(model, EndpointModel):
                model.close()


def _ask_masked(
    request: Request, evaluation: Evaluation, load_model: LoadModel, progress: Progress
) -> MaskedText:
    path = request.predictions_file
    manifest = read_manifest(path)
    if manifest is None or manifest.get("shuffle_seed") is not None:
        wrong = "of another system" if manifest is None else "about other questions' images"
        raise InputError(
            f"{path} holds answers {wrong}: nobody can be asked again with text masked",
            "Leave out --mask-text, or predict with --model and without --shuffle-images.",
        )

    def ask(records: list[Record], folder: Path, second: Path) -> None:
        again = replace(request, predictions=second, images=folder)
        if not only_scores(again, records):
            model = request.model or manifest.get("checkpoint")
            _predict(replace(again, model=model), records, load_model, progress)

    return ask_masked(evaluation, path, request.image_folder, ask, progress)


def _check_same_data(
    path: Path, manifest: dict[str, Any] | None, records: Sequence[Record], images: Path
) -> None:
    """Equal ids do not make equal data: the manifest knows what was asked."""
    if manifest is None:
        return
    remedy = f"Predict again, or remove {manifest_path(path)} to score it all the same."
    if manifest.get("data") != split_checksum(records):
        raise InputError(
            f"{path} has the predictions for other questions, images or answers with equal ids",
            remedy,
        )
    if manifest.get("pictures") and not same_pictures(manifest, pictures_of(records, images)):
        raise InputError(f"{path} has the predictions for other pictures of these names", remedy)


def write_run(folder: Path, analysis: Analysis, images: Path) -> None:
    """Write result, report and scored questions, each file atomically.

    Args:
        folder: The run folder: ``result.json``, ``report.md``, ``report.tex``, ``report.html`` and
            ``questions.jsonl``.
        analysis: The result.
        images: Folder of the images, for the HTML page.
    """
    result = analysis.to_dict()
    tables = [score_table(result)]
    if result["confidence"]:
        tables.append(confidence_table(result["confidence"]))
    if result["position_bias"]:
        tables.append(positions_table(result["position_bias"]))
    texts = {
        "report.md": "\n".join(map(to_markdown, tables)),
        "report.tex": "\n".join(map(to_latex, tables)),
        "report.html": to_html(analysis, images),
    }
    for name, text in texts.items():
        with atomic_open(folder / name) as file:
            file.write(text)
    write_json(folder / "result.json", result)
    with atomic_open(folder / "questions.jsonl") as file:
        for question in analysis.evaluation.questions:
            row = {
                "id": question.record.id,
                "image": question.record.image,
                "question": question.record.question,
                "gold": question.record.answer,
                "answer": question.prediction.answer,
                "confidence": question.prediction.confidence,
                "scores": question.values,
            }
            file.write(json_text(row) + "\n")


def compare_files(
    data: Path, first: Path, second: Path, split: str | None, profile: str = DEFAULT_PROFILE
) -> dict[str, PairedTest]:
    """Test two prediction files against each other on one split.

    Args:
        data: A data set's folder or file.
        first: Predictions of system A.
        second: Predictions of system B.
        split: Which part; None for all.
        profile: Name of the scoring convention.

    Returns:
        Column to test.

    Raises:
        InputError: Data or predictions do not fit.
    """
    convention = get_profile(profile)
    records = read_records(data, split=split)
    a, b = (score(records, read_predictions(path), convention, path) for path in (first, second))
    return compare(a, b)
