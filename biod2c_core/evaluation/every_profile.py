"""One predictions file by every convention, side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from biod2c_core import __version__
from biod2c_core.atomic import atomic_open, write_json
from biod2c_core.evaluation.evaluate import answered_questions
from biod2c_core.evaluation.predict.models import LoadModel, ModelLoader
from biod2c_core.evaluation.predict.predictions_file import read_manifest
from biod2c_core.evaluation.report.profiles_table import profiles_table
from biod2c_core.evaluation.report.tables import to_latex, to_markdown
from biod2c_core.evaluation.request import Progress, Request, silent
from biod2c_core.evaluation.score.profiles import get_profile, profile_names, rule_profiles
from biod2c_core.evaluation.score.score import describe_split
from biod2c_core.evaluation.score.score_all import AllScores, score_all
from biod2c_core.evaluation.statistics.intervals import (
    LEVEL,
    METHOD,
    RESAMPLES,
    SEED,
    matrix_intervals,
)

RESULT_NAME = "profiles.json"


def evaluate_by_all(
    request: Request, load_model: LoadModel, progress: Progress = silent
) -> dict[str, Any]:
    """Predict where needed, and score by every profile that needs no judge.

    Args:
        request: What to evaluate; its profile is not looked at.
        load_model: Called with checkpoint and device, only if something must be predicted.
        progress: Given a number of questions, a context whose value is called with each number done.

    Returns:
        JSON-ready: data, predictions, and for each profile that applies its columns with intervals and
        its totals. With ``request.run`` it is also written there, with tables.

    Raises:
        InputError: Data, predictions or options do not fit.
    """
    with ModelLoader(load_model) as loader:
        answered = answered_questions(request, loader, progress)
    records, path = answered.records, request.predictions_file
    with progress(len(records)) as advance:
        scores = score_all(records, answered.predictions, rule_profiles(), path, advance)
    result = {
        "biod2c_version": __version__,
        "data": describe_split(records),
        "quick_look_of": answered.quick_look_of,
        "predictions": read_manifest(path),
        "intervals": {"level": LEVEL, "method": METHOD, "resamples": RESAMPLES, "seed": SEED},
        "profiles": _by_profile(scores),
        "need_a_judge": [name for name in profile_names() if get_profile(name).judge is not None],
    }
    if request.run is not None:
        _write(request.run, result)
    return result


def _by_profile(scores: AllScores) -> list[dict[str, Any]]:
    estimates = matrix_intervals(scores.records, scores.values)
    found = []
    for profile in scores.profiles:
        columns = estimates[scores.columns_of(profile)]
        shown = {
            metric.key: {"label": metric.label, "meaning": metric.meaning, **asdict(estimate)}
            for metric, estimate in zip(profile.metrics, columns, strict=True)
            if estimate.questions
        }
        if not shown:
            continue
        values = scores.totals.get(profile.name, {})
        totals = {
            metric.key: {"label": metric.label, "value": values[metric.key]}
            for metric in profile.total_metrics
            if metric.key in values
        }
        found.append(
            {
                "name": profile.name,
                "version": profile.version,
                "summary": profile.summary,
                "source": profile.source,
                "scores": shown,
                "totals": totals,
            }
        )
    return found


def _write(run: Path, result: dict[str, Any]) -> None:
    table = profiles_table(result)
    for name, text in (("profiles.md", to_markdown(table)), ("profiles.tex", to_latex(table))):
        with atomic_open(run / name) as file:
            file.write(text)
    write_json(run / RESULT_NAME, result)
