"""One HTML page with table, intervals, breakdowns and every question with its image.

The page loads nothing: style, script, plots and images stand in it. What people and models wrote
reaches it as escaped text, or as data that the script puts in as text, never as markup.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from biod2c_core.data.images import load_image
from biod2c_core.errors import ImageError
from biod2c_core.evaluation.report.confidence import confidence_section
from biod2c_core.evaluation.report.positions import positions_table
from biod2c_core.evaluation.report.probes import controls_picture
from biod2c_core.evaluation.report.sections import probe_tables
from biod2c_core.evaluation.report.svg import DotRow, dot_plot
from biod2c_core.evaluation.report.tables import number, result_title, score_table
from biod2c_core.evaluation.score.profiles import Profile
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.evaluation.statistics.analysis import Analysis
from biod2c_core.pages import render_page

THUMBNAIL = 288
MOST_IMAGES = 1500


def verdict(question: ScoredQuestion) -> str:
    """``right`` for full marks by the profile's own measure, ``wrong`` for none, else ``partly``."""
    value = question.correctness or 0.0
    return "right" if value == 1 else "partly" if value > 0 else "wrong"


def thumbnail(name: str, image_root: Path) -> str:
    """A small JPEG of an image as a ``data:`` address; empty for what cannot be read."""
    try:
        image = load_image(name, root=image_root)
    except ImageError:
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _embedded(questions: Sequence[ScoredQuestion], image_root: Path) -> dict[str, Any]:
    """Questions and images as the page's script reads them."""
    names = list(dict.fromkeys(question.record.image for question in questions))
    place = {name: index for index, name in enumerate(names)}
    rows = [
        {
            "id": question.record.id,
            "image": place[question.record.image],
            "question": question.record.question,
            "gold": question.record.answer,
            "answer": question.prediction.answer,
            "confidence": _finite(question.prediction.confidence),
            "verdict": verdict(question),
            "filters": _filters(question),
        }
        for question in questions
    ]
    pictures = [thumbnail(name, image_root) for name in names[:MOST_IMAGES]]
    return {"questions": rows, "images": pictures, "names": names}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _filters(question: ScoredQuestion) -> dict[str, str]:
    found = {
        tag: value
        for tag, value in question.record.tags.items()
        if not tag.startswith(("choice_", "answer_"))
    }
    if question.record.answer_type:
        found["answer type"] = question.record.answer_type
    return found


def _score_rows(result: dict[str, Any], profile: Profile) -> list[DotRow]:
    rows = []
    for metric in profile.metrics:
        estimate = result["scores"][metric.key]
        if estimate["value"] is None:
            continue
        others = {
            name: columns[metric.key]["value"] for name, columns in result["baselines"].items()
        }
        rows.append(
            DotRow(
                metric.label,
                estimate["value"],
                estimate["low"],
                estimate["high"],
                f"n {estimate['questions']}",
                others,
            )
        )
    return rows


def _breakdown(result: dict[str, Any], profile: Profile) -> list[dict[str, Any]]:
    """One figure for each tag and column; the script shows those of the chosen column."""
    figures = []
    for tag, values in result["breakdown"].items():
        for metric in profile.metrics:
            rows = [
                DotRow(value, cell["value"], cell["low"], cell["high"], f"n {cell['questions']}")
                for value, columns in values.items()
                for cell in [columns[metric.key]]
                if cell["value"] is not None
            ]
            if rows:
                title = f"{metric.label} by {tag.replace('_', ' ')}"
                figures.append({"metric": metric, "title": title, "svg": dot_plot(rows, title)})
    return figures


def _facts(result: dict[str, Any]) -> dict[str, str]:
    data, predictions = result["data"], result["predictions"] or {}
    return {
        "questions": f"{data['questions']} about {data['images']} images",
        "closed / open by answer type": f"{data['closed_by_type']} / {data['open_by_type']}",
        "closed / open by yes/no gold": f"{data['closed_by_answer']} / {data['open_by_answer']}",
        "profile": f"{result['profile']['name']} {result['profile']['version']}: "
        f"{result['profile']['summary']}",
        "checksum of the split": data["checksum"],
        "model": predictions.get("model", "not known"),
        "checksum of the weights": predictions.get("identity", "not known"),
        "biod2c": result["biod2c_version"],
        "intervals": f"{number(result['intervals']['level'], 2)}, {result['intervals']['method']}",
    }


def _probes(result: dict[str, Any]) -> dict[str, Any] | None:
    """What the page shows of a model that was asked again; None where it was not."""
    tables = probe_tables(result)
    controls = result["controls"]
    picture = controls_picture(controls) if controls else None
    return {"tables": tables, "picture": picture} if tables else None


def to_html(analysis: Analysis, image_root: Path) -> str:
    """The whole page.

    Args:
        analysis: The result.
        image_root: Folder of the images. One that cannot be read is left out of the page.
    """
    result, profile = analysis.to_dict(), analysis.evaluation.profile
    return render_page(
        "report/page",
        "img-src data:",
        title=result_title(result),
        facts=_facts(result),
        table=score_table(result),
        metrics=profile.metrics,
        scores=dot_plot(_score_rows(result, profile), "Scores with intervals and baselines"),
        breakdown=_breakdown(result, profile),
        probes=_probes(result),
        confidence=confidence_section(result["confidence"]),
        positions=positions_table(bias) if (bias := result["position_bias"]) else None,
        data=_embedded(analysis.evaluation.questions, image_root),
    ).html
