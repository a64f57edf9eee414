"""``biod2c.evaluate``: an evaluation in one call with plain arguments."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from biod2c_core.evaluation.evaluate import evaluate as run_evaluation
from biod2c_core.evaluation.locate import find_data
from biod2c_core.evaluation.predict.models import Endpoint, load_model
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.score.profiles import DEFAULT_PROFILE
from biod2c_core.evaluation.statistics.analysis import Analysis

if TYPE_CHECKING:  # loads torch, which scoring a file does without
    from biod2c_core.evaluation.predict.answers import AnswersQuestions
    from biod2c_core.inference.vqa_model import VQAModel


def evaluate(
    data: str | Path,
    model: VQAModel | AnswersQuestions | str | Path | None = None,
    *,
    split: str | None = "test",
    predictions: str | Path | None = None,
    output: str | Path | None = None,
    profile: str = DEFAULT_PROFILE,
    image_root: str | Path | None = None,
    train: str | Path | None = None,
    shuffle_images: int | None = None,
    controls: bool = False,
    consistency: bool = False,
    limit: int | None = None,
    device: str = "auto",
) -> Analysis:
    """Score a model, or anyone's predictions, on a data set: ``biod2c evaluate`` in one call.

    Args:
        data: A record file, a data set's folder, or a published data set's name (``vqa-rad``).
        model: From :func:`biod2c.load`, or a folder, a hub name, ``hf:NAME_OR_FOLDER``,
            ``openai:NAME``; or any object with ``name``, ``identity`` (equal only for equal weights) and
            ``answer_images(images, questions)``; None for the embedded model, or to score
            ``predictions`` as they are.
        split: ``train``, ``validation``, ``test``; None for all.
        predictions: JSONL with ``id`` and ``answer``. Without ``model``, an existing file is only
            scored; otherwise the answers go there, and a second call resumes.
        output: Folder for predictions, scores and reports; None to write none.
        profile: How to count: ``multimedeval`` (the paper's table), ``llava-med``, ``pmc-vqa``,
            ``exact``.
        image_root: Folder of the images; by default the data's own.
        train: What the model was trained on, for the baselines and the contamination check; by
            default the data's own split ``train``.
        shuffle_images: A seed: ask each question about another question's image.
        controls: Does it look? Ask also about another question's image, a blank one, noise and none.
        consistency: Ask also in other words, negated, and for attributes of the images.
        limit: Only the first so many questions.
        device: ``auto``, ``cpu``, ``cuda`` ...; that of ``model`` if it is loaded already.

    Returns:
        The result: ``estimates`` by metric, each with ``value``, ``low`` and ``high``; ``to_dict()``
        is what ``result.json`` holds.

    Raises:
        InputError: Data, predictions or options do not fit.
    """
    loaded = None if model is None or isinstance(model, str | Path) else model
    with TemporaryDirectory(prefix="biod2c-") as scratch:
        kept = Path(predictions) if predictions is not None else None
        if kept is None and output is None:
            kept = Path(scratch) / "predictions.jsonl"
        request = Request(
            data=find_data(data),
            split=split,
            predictions=kept,
            run=Path(output) if output is not None else None,
            model=_name(model),
            devices=(device,),
            profile=profile,
            shuffle_seed=shuffle_images,
            images=Path(image_root) if image_root is not None else None,
            training=find_data(train) if train is not None else None,
            controls=controls,
            consistency=consistency,
            limit=limit,
        )
        if loaded is not None:
            answerer: Any = getattr(loaded, "answerer", loaded)
            return run_evaluation(request, lambda _checkpoint, _device: answerer)
        load = partial(load_model, predictions=request.predictions_file, endpoint=Endpoint())
        return run_evaluation(request, load)


def _name(model: VQAModel | AnswersQuestions | str | Path | None) -> str | None:
    """What a resume can load it by; for any other object its name."""
    if model is None or isinstance(model, str | Path):
        return None if model is None else str(model)
    answerer: Any = getattr(model, "answerer", model)
    return str(getattr(answerer, "folder", None) or answerer.name)
