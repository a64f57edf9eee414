"""Everything that a run asks its model again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from biod2c_core.data.scrub_text import Progress
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.models import ENDPOINT_PREFIX
from biod2c_core.evaluation.predict.predictions_file import read_manifest
from biod2c_core.evaluation.probes.again import AskAgain
from biod2c_core.evaluation.probes.consistency import ask_consistency
from biod2c_core.evaluation.probes.controls import ask_controls
from biod2c_core.evaluation.probes.masked_text import ask_masked
from biod2c_core.evaluation.probes.repeats import ask_repeatedly
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.statistics.analysis import Analysis


def probe(
    request: Request, analysis: Analysis, asker: Callable[[str], AskAgain], progress: Progress
) -> Analysis:
    """Ask again as far as a request wants it.

    Args:
        request: What to evaluate.
        analysis: Of the first answers.
        asker: From what is asked again, for messages, to who asks it.
        progress: Given a number, a context whose value is called with each number done.

    Raises:
        InputError: The answers are of another system, or the data does not allow it.
    """
    path, evaluation = request.predictions_file, analysis.evaluation
    if request.mask_text:
        ask = asker("with text masked")
        masked = ask_masked(evaluation, path, request.image_folder, ask, progress)
        analysis = replace(analysis, masked=masked)
    if request.controls:
        theirs = read_manifest(path) is None
        again = None if theirs else asker("about other pictures")
        controls = ask_controls(evaluation, path, again, request.asking)
        analysis = replace(analysis, controls=controls)
    if request.consistency:
        ask = asker("in other words")
        consistency = ask_consistency(evaluation, path, ask, request.asking)
        analysis = replace(analysis, consistency=consistency)
    if request.repeat > 1:
        ask = asker("the same")
        repeats = ask_repeatedly(evaluation, path, ask, request.asking, request.repeat)
        analysis = replace(analysis, repeats=repeats)
    return analysis


def check_probes(request: Request, judged: bool) -> None:
    """Check what is asked for before anything is predicted.

    Args:
        request: What to evaluate.
        judged: Whether its profile asks a judge.

    Raises:
        InputError: It cannot be done, or would say nothing.
    """
    if judged and (request.controls or request.repeat > 1):
        raise InputError(
            f"the profile {request.profile!r} would ask its judge about every answer again",
            "Choose a profile without a judge for --controls and --repeat.",
        )
    same = request.asking.sampling is None and not (request.model or "").startswith(ENDPOINT_PREFIX)
    if request.repeat > 1 and same:
        raise InputError(
            "without a temperature every repetition gives the same answers",
            "Add --temperature 0.7.",
        )
