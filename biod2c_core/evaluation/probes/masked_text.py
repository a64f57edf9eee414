"""What a model owes to text in the pixels: the same questions, with the text blacked out."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from biod2c_core.atomic import json_text
from biod2c_core.data.burnt_text import FoundText, find_text
from biod2c_core.data.images import resolve_image
from biod2c_core.data.scrub_text import PNG, Progress, journal_of, write_masked
from biod2c_core.evaluation.probes.again import AskAgain, beside
from biod2c_core.evaluation.score.score import Evaluation, score
from biod2c_core.evaluation.statistics.intervals import PairedTest, compare


@dataclass(frozen=True)
class MaskedText:
    """The answers with text masked beside those without.

    Attributes:
        images: Different images of the questions.
        images_with_text: Those that have text; only questions about them were asked again.
        questions: How many these are.
        all_questions: Column to test, as they are (A) against masked (B).
        about_text: The same, on the questions about images with text alone; empty where there are
            none.
    """

    images: int
    images_with_text: int
    questions: int
    all_questions: dict[str, PairedTest]
    about_text: dict[str, PairedTest]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)


def ask_masked(
    evaluation: Evaluation,
    path: Path,
    image_folder: Path,
    ask: AskAgain,
    progress: Progress,
) -> MaskedText:
    """Ask the questions about images with text again, text masked, and compare.

    Killed at any moment and started again, no image is read and no question asked twice.

    Args:
        evaluation: The answers to the images as they are.
        path: Their predictions file; those of the second pass and what was read go beside it.
        image_folder: The image root.
        ask: The same model.
        progress: Given the number of images, a context whose value is called with each number read.

    Raises:
        InputError: The answers of the first pass are another model's.
        MissingDependencyError: The extra ``text`` is not installed.
    """
    names = sorted({record.image for record in evaluation.records})
    with progress(len(names)) as advance:
        found = find_text(names, image_folder, journal_of(path), advance=advance)
    touched = [record for record in evaluation.records if record.image in found.texts]
    second = beside(path, "masked-text")
    answers = {question.record.id: question.prediction for question in evaluation.questions}
    if touched:
        pictures = second.with_name(f".{second.name}.pictures")
        try:
            masked = _write_masked(found.texts, image_folder, pictures)
            asked = [replace(record, image=masked[record.image]) for record in touched]
            answers |= ask(asked, second, images=pictures)
        finally:
            shutil.rmtree(pictures, ignore_errors=True)
    again = score(evaluation.records, answers, evaluation.profile, second)
    about = {record.id for record in touched}
    return MaskedText(
        images=len(names),
        images_with_text=len(found.texts),
        questions=len(touched),
        all_questions=compare(evaluation, again),
        about_text=compare(_only(evaluation, about), _only(again, about)) if touched else {},
    )


def _write_masked(
    texts: dict[str, list[FoundText]], image_folder: Path, folder: Path
) -> dict[str, str]:
    """Write the masked images, without loss; their names tell other boxes apart, for a resume."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    names = {}
    for name, found in texts.items():
        key = json_text([name, [each.box for each in found]])
        names[name] = hashlib.sha256(key.encode()).hexdigest()[:32] + PNG
        write_masked(resolve_image(image_folder, name), folder / names[name], found)
    return names


def _only(evaluation: Evaluation, ids: set[str]) -> Evaluation:
    kept = [question for question in evaluation.questions if question.record.id in ids]
    return replace(evaluation, questions=tuple(kept))
