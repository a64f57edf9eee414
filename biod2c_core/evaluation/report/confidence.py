"""What confidences are worth, as a table and two pictures."""

from __future__ import annotations

from typing import Any

from biod2c_core.evaluation.report.svg import Dot, Line, line_plot
from biod2c_core.evaluation.report.tables import Cell, Table, interval, number
from biod2c_core.evaluation.statistics.conformal import SPLITS

_KINDS = {"closed": "closed questions", "choice": "multiple choice"}


def confidence_table(confidence: dict[str, Any]) -> Table:
    """Selective accuracy, area, calibration and conformal sets.

    Args:
        confidence: Of a result.
    """
    rows = [["accuracy of all", number(confidence["accuracy"]), ""]]
    for selective in confidence["selective"]:
        label = f"accuracy of the surest {selective['wanted']:.0%}"
        if selective["coverage"] > selective["wanted"] + 0.01:
            label += f" (ties: {selective['coverage']:.0%})"
        accuracy = selective["accuracy"]
        rows.append([label, number(accuracy["value"]), interval(accuracy)])
    area = confidence["area"]
    rows += [
        ["area under risk-coverage", number(area["value"]), interval(area)],
        ["the same without information", number(confidence["area_random"]), ""],
        ["the same if right ones came first", number(confidence["area_perfect"]), ""],
        ["calibration error (ECE)", number(confidence["calibration_error"]), ""],
        ["Brier score", number(confidence["brier"]), ""],
    ]
    for sets in confidence["conformal"]:
        kind = f"{sets['level']:.0%} sets, {_KINDS[sets['kind']]}"
        rows += [
            [f"{kind}: coverage", number(sets["coverage"]), interval(sets)],
            [f"{kind}: answers in a set", number(sets["size"], 2), ""],
            [f"{kind}: one answer", number(sets["single"]), ""],
        ]
    notes = [
        f"{confidence['questions']} answers have a confidence, {confidence['without']} have none."
    ]
    if confidence["conformal"]:
        notes.append(
            "Sets hold what cannot be ruled out; half of the images calibrate, the others are tested, "
            f"{SPLITS} times, and the interval of a coverage is over these."
        )
    columns = ["confidence", "value", "95% interval"]
    return Table("Confidence", columns, [[Cell(text) for text in row] for row in rows], notes)


def confidence_section(confidence: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the page's template needs; None where there are no confidences."""
    if confidence is None:
        return None
    curve = Line("risk of the surest answers", confidence["curve"])
    mean = Line(
        "without information", [(0, confidence["area_random"]), (1, confidence["area_random"])]
    )
    selective = [
        Dot(s["coverage"], 1 - s["accuracy"]["value"], f"risk {1 - s['accuracy']['value']:.3f}")
        for s in confidence["selective"]
    ]
    bins = [
        Dot(
            each["confidence"],
            each["accuracy"],
            f"{each['questions']} answers, right {each['accuracy']:.3f}",
        )
        for each in confidence["bins"]
    ]
    figures = [
        {
            "caption": "Risk (1 - accuracy) when only the surest answers are given; dots at 80 and 60 %. "
            "Dashed: confidences without information.",
            "svg": line_plot(
                [curve, Line(mean.name, mean.points, solid=False)],
                selective,
                ("Risk against coverage", "share of questions answered", "risk"),
            ),
        },
        {
            "caption": "How often answers of a confidence are right, ten bins. Dashed: calibrated.",
            "svg": line_plot(
                [Line("calibrated", [(0, 0), (1, 1)], solid=False)],
                bins,
                ("Calibration", "confidence", "share right"),
            ),
        },
    ]
    return {"table": confidence_table(confidence), "figures": figures}
