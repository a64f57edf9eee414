"""The folder of a run: result, tables, page, and every question with its scores."""

from __future__ import annotations

from pathlib import Path

from biod2c_core.atomic import atomic_open, json_text, write_json
from biod2c_core.evaluation.report.html import to_html
from biod2c_core.evaluation.report.probes import controls_picture
from biod2c_core.evaluation.report.sections import result_tables
from biod2c_core.evaluation.report.tables import to_latex, to_markdown
from biod2c_core.evaluation.statistics.analysis import Analysis


def write_run(folder: Path, analysis: Analysis, images: Path) -> None:
    """Write result, report and scored questions, each file atomically.

    Args:
        folder: The run folder: ``result.json``, ``report.md``, ``report.tex``, ``report.html`` and
            ``questions.jsonl``; with controls, ``controls.svg``; what was asked in other words,
            ``consistency.jsonl``.
        analysis: The result.
        images: Folder of the images, for the HTML page.
    """
    result = analysis.to_dict()
    tables = result_tables(result)
    texts = {
        "report.md": "\n".join(map(to_markdown, tables)),
        "report.tex": "\n".join(map(to_latex, tables)),
        "report.html": to_html(analysis, images),
    }
    if result["controls"]:
        texts["controls.svg"] = controls_picture(result["controls"], alone=True)
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
    if analysis.consistency is not None:
        with atomic_open(folder / "consistency.jsonl") as file:
            file.writelines(json_text(row) + "\n" for row in analysis.consistency.rows)
