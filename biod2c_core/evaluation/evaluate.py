"""One evaluation from data to result: predict what is missing, score, write the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from biod2c_core.append_log import ends_torn
from biod2c_core.data.burnt_text import require_reader
from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.judge.convention import ask_convention
from biod2c_core.evaluation.judge.judge_run import judge_result
from biod2c_core.evaluation.predict.asking import Asking
from biod2c_core.evaluation.predict.models import ENDPOINT_PREFIX, LoadModel, ModelLoader
from biod2c_core.evaluation.predict.predict import pictures_of, predict
from biod2c_core.evaluation.predict.predictions_file import (
    Prediction,
    check_complete,
    manifest_path,
    read_manifest,
    read_predictions,
    same_pictures,
    shard_path,
    split_checksum,
)
from biod2c_core.evaluation.predict.prompts import check_prompt
from biod2c_core.evaluation.predict.sharding import Job, absorb_shards, predict_on
from biod2c_core.evaluation.probes.again import AskAgain, check_same_model
from biod2c_core.evaluation.probes.run import check_probes, probe
from biod2c_core.evaluation.request import Progress, Request, silent
from biod2c_core.evaluation.run_folder import write_run
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.profiles.base import Profile
from biod2c_core.evaluation.score.score import check_scorable, score
from biod2c_core.evaluation.statistics.analysis import Analysis, TrainingData, analyse


def only_scores(request: Request, records: Sequence[Record]) -> bool:
    """Whether an existing predictions file is to be scored as it is.

    So it is, unless ``model`` is given, for the file of another system and for one of ours that has all
    that is wanted. One of ours that was interrupted is resumed.

    Args:
        request: What to evaluate.
        records: All questions, also those beyond its limit.
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
    if any(manifest.get(key) != value for key, value in request.asking.manifest().items()):
        return False  # which predicting will refuse
    wanted = {record.id for record in records[: request.limit]}
    return not ends_torn(path) and wanted <= read_predictions(path).keys()


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
    check_probes(request, profile.judge is not None)
    with ModelLoader(load_model) as loader:
        answered = answered_questions(request, loader, progress)
        analysis = _score(request, profile, answered, progress)
        asker = partial(_asker, request, answered.whole, loader, progress)
        analysis = probe(request, analysis, asker, progress)
    if request.run is not None:
        write_run(request.run, analysis, request.image_folder)
    return analysis


def _score(request: Request, profile: Profile, answered: Answered, progress: Progress) -> Analysis:
    """Score and judge what was answered."""
    path, records, predictions = request.predictions_file, answered.records, answered.predictions
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
    analysis = replace(analysis, quick_look_of=answered.quick_look_of)
    if verdicts is None and request.judging is not None and request.run is not None:
        judged = judge_result(evaluation.questions, request.judging, request.run, progress)
        analysis = replace(analysis, judged=judged)
    return analysis


@dataclass(frozen=True)
class Answered:
    """The questions of a request with their answers.

    Attributes:
        whole: All questions of the split.
        records: Those within the limit.
        predictions: Id to answer; of ids in ``whole``, none beyond the limit.
    """

    whole: list[Record]
    records: list[Record]
    predictions: dict[str, Prediction]

    @property
    def quick_look_of(self) -> int | None:
        """How many questions there are in all, where these are not all."""
        return len(self.whole) if len(self.records) < len(self.whole) else None


def answered_questions(
    request: Request, loader: ModelLoader, progress: Progress = silent
) -> Answered:
    """The questions of a request and their answers, predicted where needed.

    Args:
        request: What to evaluate.
        loader: Asked for the model only if something must be predicted.
        progress: Given the number of questions, a context whose value is called with each number of
            questions answered.

    Raises:
        InputError: Data, predictions or options do not fit.
    """
    whole = read_records(request.data, split=request.split)
    check_scorable(whole[: request.limit])
    if request.asking.prompt is not None:
        check_prompt(request.asking.prompt, whole)
    path = request.predictions_file
    _check_there(request)
    if not only_scores(request, whole):
        _predict(request, whole, loader, progress)
    _check_same_data(path, read_manifest(path), whole, request.image_folder)
    return Answered(whole, whole[: request.limit], _within_limit(path, whole, request.limit))


def _within_limit(path: Path, whole: Sequence[Record], limit: int | None) -> dict[str, Prediction]:
    """The answers of a file without those to questions beyond the limit."""
    beyond = {record.id for record in whole[limit:]} if limit is not None else set()
    found = read_predictions(path)
    return {name: answer for name, answer in found.items() if name not in beyond}


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
    request: Request, records: Sequence[Record], loader: ModelLoader, progress: Progress
) -> None:
    path = request.predictions_file
    checkpoint = request.model or (read_manifest(path) or {}).get("checkpoint")
    job = Job(
        loader.load_model,
        checkpoint,
        records,
        request.image_folder,
        path,
        request.shuffle_seed,
        request.asking,
        request.limit,
    )
    with progress(len(records[: request.limit])) as advance:
        if len(request.devices) > 1:
            if (checkpoint or "").startswith(ENDPOINT_PREFIX):
                raise InputError(f"{checkpoint} runs on no device here", "Leave out --gpus.")
            predict_on(request.devices, job, advance)
            return
        absorb_shards(path)  # of an interrupted run on several devices
        predict(
            loader(checkpoint, request.devices[0]),
            records,
            job.image_root,
            path,
            checkpoint=checkpoint,
            shuffle_seed=request.shuffle_seed,
            asking=request.asking,
            limit=request.limit,
            advance=advance,
        )


def _asker(
    request: Request, whole: Sequence[Record], loader: ModelLoader, progress: Progress, what: str
) -> AskAgain:
    """How the model that answered is asked again.

    Raises:
        InputError: Nobody can be asked again ``what``.
    """
    first = request.predictions_file
    manifest = read_manifest(first)
    if manifest is None or manifest.get("shuffle_seed") is not None:
        wrong = "of another system" if manifest is None else "about other questions' images"
        raise InputError(
            f"{first} holds answers {wrong}: nobody can be asked again {what}",
            "Predict with --model and without --shuffle-images, or do not ask for this.",
        )

    def ask(
        records: Sequence[Record] | None,
        path: Path,
        *,
        images: Path | None = None,
        shuffle_seed: int | None = None,
        asking: Asking | None = None,
    ) -> Mapping[str, Prediction]:
        asked, limit = (whole, request.limit) if records is None else (records, None)
        again = replace(
            request,
            predictions=path,
            limit=limit,
            images=images or request.images,
            shuffle_seed=shuffle_seed,
            asking=asking or request.asking,
        )
        if not only_scores(again, asked):
            model = request.model or manifest.get("checkpoint")
            _predict(replace(again, model=model), asked, loader, progress)
        _check_same_data(path, read_manifest(path), asked, again.image_folder)
        check_same_model(first, path, what)
        answers = _within_limit(path, asked, limit)
        check_complete(asked[:limit], answers, path)
        return answers

    return ask


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
