"""How often each letter is chosen and right, as a table."""

from __future__ import annotations

from typing import Any

from biod2c_core.evaluation.report.tables import Cell, Table, interval, number


def positions_table(bias: dict[str, Any]) -> Table:
    """One row a letter.

    Args:
        bias: ``position_bias`` of a result.
    """
    rows = [
        [
            each["letter"],
            str(each["right"]),
            str(each["chosen"]),
            f"{each['bias']['value']:+.3f}",
            interval(each["bias"]),
            number(each["accuracy"]["value"]),
            interval(each["accuracy"]),
        ]
        for each in bias["positions"]
    ]
    notes = [
        f"{bias['questions']} multiple-choice questions; {bias['unread']} answers mean none of their "
        "choices. bias: share of answers with the letter, minus share of questions where it is right.",
        f"Standard deviation of the accuracies by letter: {number(bias['spread'])}. A preference shows "
        "best with shuffled letters: biod2c data shuffle-choices.",
    ]
    columns = ["letter", "right", "chosen", "bias", "95% interval", "choice ACC", "95% interval"]
    return Table("Letters", columns, [[Cell(text) for text in row] for row in rows], notes)
