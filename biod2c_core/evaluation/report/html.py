"""One HTML page with table, intervals, breakdowns and every question with its image.

The page loads nothing: style, script, plots and images stand in it, and its content policy forbids
everything else. What people and models wrote reaches the page as escaped text or as data that the
script puts in as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from biod2c_core.data.images import load_image
from biod2c_core.errors import ImageError
from biod2c_core.evaluation.report.svg import DotRow, dot_plot
from biod2c_core.evaluation.report.tables import describe, number, score_table
from biod2c_core.evaluation.score.profiles import Profile
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.evaluation.statistics.analysis import Analysis

THUMBNAIL = 288
MOST_IMAGES = 1500
_CORRECTNESS = (
    "closed_accuracy",
    "open_accuracy",
    "choice_accuracy",
    "exact_match",
    "closed_accuracy_by_type",
    "open_recall",
)


def verdict(question: ScoredQuestion) -> str:
    """``right`` for full marks by the profile's own measure, ``wrong`` for none, else ``partly``."""
    value = next((question.values[key] for key in _CORRECTNESS if key in question.values), 0.0)
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


def _json(value: Any) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)  # JSON knows no NaN
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return resources.files("biod2c_core").joinpath("assets", "report", name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'"
    )


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


def _breakdown(result: dict[str, Any], profile: Profile) -> str:
    """One figure for each tag and column; the script shows those of the chosen column."""
    figures = []
    for tag, values in result["breakdown"].items():
        for index, metric in enumerate(profile.metrics):
            rows = [
                DotRow(value, cell["value"], cell["low"], cell["high"], f"n {cell['questions']}")
                for value, columns in values.items()
                for cell in [columns[metric.key]]
                if cell["value"] is not None
            ]
            if rows:
                title = f"{metric.label} by {tag.replace('_', ' ')}"
                hidden = "" if index == 0 else " hidden"
                figures.append(
                    f'<figure data-metric="{escape(metric.key)}"{hidden}><figcaption>'
                    f"{escape(title)}</figcaption>{dot_plot(rows, title)}</figure>"
                )
    return "".join(figures)


def _metric_choice(profile: Profile) -> str:
    options = "".join(
        f'<option value="{escape(metric.key)}">{escape(metric.label)}</option>'
        for metric in profile.metrics
    )
    return f'<label>Column <select id="metric">{options}</select></label>'


def _table(result: dict[str, Any], profile: Profile) -> str:
    table = score_table(result)
    head = "".join(f"<th scope=col>{escape(column)}</th>" for column in table.columns)
    meanings = [metric.meaning for metric in profile.metrics]
    meanings += [""] * (len(table.rows) - len(meanings))  # the judge's rows
    body = ""
    for row, meaning in zip(table.rows, meanings, strict=True):
        first, *rest = (escape(cell.text) for cell in row)
        heading = f'<th scope=row title="{escape(meaning)}">{first}</th>'
        body += f"<tr>{heading}{''.join(f'<td>{text}</td>' for text in rest)}</tr>"
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def _facts(result: dict[str, Any]) -> str:
    data, predictions = result["data"], result["predictions"] or {}
    facts = {
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
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return f"<dl>{rows}</dl>"


def to_html(analysis: Analysis, image_root: Path) -> str:
    """The whole page.

    Args:
        analysis: The result.
        image_root: Folder of the images. One that cannot be read is left out of the page.
    """
    result, profile = analysis.to_dict(), analysis.evaluation.profile
    style, script = _asset("page.css"), _asset("page.js")
    title = escape(describe(result))
    shown = dot_plot(_score_rows(result, profile), "Scores with intervals and baselines")
    breakdown = _breakdown(result, profile)
    section = f"<h2>By group</h2>{_metric_choice(profile)}{breakdown}" if breakdown else ""
    data = _json(_embedded(analysis.evaluation.questions, image_root))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{_facts(result)}
<h2>Scores</h2>
{_table(result, profile)}
<figure><figcaption>Dot: value. Line: 95% interval. Diamond: majority answer. Circle: question only.
</figcaption>{shown}</figure>
{section}
<h2>Questions</h2>
<form id="filters"></form>
<p id="count" role="status"></p>
<div id="questions"></div>
<button id="more" type="button">Show more</button>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
