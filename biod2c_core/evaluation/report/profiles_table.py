"""The table that lays the numbers of all conventions side by side."""

from __future__ import annotations

from typing import Any

from biod2c_core.evaluation.report.tables import Cell, Table, interval, number, quick_look_note


def profiles_table(result: dict[str, Any]) -> Table:
    """One row for each column of each convention.

    Args:
        result: Of :func:`~biod2c_core.evaluation.every_profile.evaluate_by_all`.
    """
    rows = []
    for profile in result["profiles"]:
        head = f"{profile['name']} {profile['version']}"
        for score in profile["scores"].values():
            cells = [score["label"], number(score["value"]), interval(score)]
            rows.append([head, *cells, str(score["questions"])])
            head = ""
        for key, total in profile["totals"].items():
            count = key.endswith("_answers")
            shown = str(int(total["value"])) if count else number(total["value"])
            rows.append([head, total["label"], shown, "", ""])
            head = ""
    data = result["data"]
    model = (result["predictions"] or {}).get("model", "predictions of another system")
    title = (
        f"{model} on {data['source'] or 'records'} {data['split']}, the same answers by every "
        f"convention, data {data['checksum'][:12]}"
    )
    notes = [
        *quick_look_note(result),
        "(type) goes by the data's answer type, other closed and open columns by a gold of yes or no: "
        f"{data['closed_by_type']} + {data['open_by_type']} against "
        f"{data['closed_by_answer']} + {data['open_by_answer']} questions.",
        "Numbers of two conventions are not comparable, even under one name.",
        f"Left out, as they need a judge: {', '.join(result['need_a_judge'])}.",
    ]
    columns = ["profile", "metric", "value", "95% interval", "questions"]
    return Table(title, columns, [[Cell(text) for text in row] for row in rows], notes, 2)
