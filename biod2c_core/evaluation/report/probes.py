"""What a model says when it is asked again, as tables and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biod2c_core.evaluation.report.svg import PictureRow, controls_plot
from biod2c_core.evaluation.report.tables import Cell, Table, interval, number

PICTURES = {
    "own": "its own image",
    "other": "another question's image",
    "blank": "a blank image",
    "noise": "a noise image",
    "none": "no image",
}
MOST_ROWS = 24  # of the picture


def _table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    headings: int = 1,
) -> Table:
    return Table(title, columns, [[Cell(text) for text in row] for row in rows], notes, headings)


def controls_tables(controls: dict[str, Any]) -> list[Table]:
    """Accuracy with each picture over all questions; and the measures by type of question.

    Args:
        controls: Of a result.
    """
    whole = controls["groups"][0]
    rows = []
    for name, accuracy in whole["accuracy"].items():
        row = [PICTURES[name], number(accuracy["value"]), interval(accuracy)]
        if name in whole["difference"]:
            test = whole["difference"][name]
            row += [
                f"{test['difference']:+.3f}",
                _signed(test),
                f"{test['p_adjusted']:.4f}",
                number(whole["changed"][name]["value"]),
            ]
        rows.append(row + [""] * (7 - len(row)))
    columns = ["asked about", "ACC", "95% interval", "own - it", "95% interval", "p (Holm)"]
    notes = [f"Not asked, {PICTURES[name]}: {why}" for name, why in controls["missing"].items()]
    if "other" in whole["difference"]:
        reliance, sensitivity = whole["reliance"], whole["sensitivity"]
        notes.append(
            f"Reliance {reliance['difference']:+.3f} ({_signed(reliance)}), sensitivity "
            f"{number(sensitivity['value'])} ({interval(sensitivity)}): what another question's "
            "image takes from the accuracy, and the share of answers that it changes."
        )
    first = _table(
        f"Does it look? {whole['questions']} questions", [*columns, "answers changed"], rows, notes
    )
    return [first, _by_type(controls)]


def _by_type(controls: dict[str, Any]) -> Table:
    groups = controls["groups"]
    names = list(groups[0]["accuracy"])
    columns = ["questions of", "number", *names, "reliance", "95% interval", "sensitivity"]
    columns += ["kept blank"] if "blank" in names else []
    rows = []
    for group in groups:
        row = [_label(group), str(group["questions"])]
        row += [number(group["accuracy"][name]["value"]) for name in names]
        if group["reliance"]:
            row += [f"{group['reliance']['difference']:+.3f}", _signed(group["reliance"])]
            row.append(number(group["sensitivity"]["value"]))
        else:
            row += ["-", "-", "-"]
        if "blank" in names:
            row.append(number(group["kept"]["blank"]["value"]))
        rows.append(row)
    note = (
        "ACC about each picture; reliance: own - other; sensitivity: answers that the other image "
    )
    note += "changes; kept blank: ACC blank / ACC own."
    return _table("Does it look? By type of question", columns, rows, [note])


def _label(group: Mapping[str, Any]) -> str:
    return f"{group['tag'].replace('_', ' ')}: {group['value']}" if group["tag"] else group["value"]


def _signed(test: Mapping[str, Any]) -> str:
    return "-" if test["low"] is None else f"{test['low']:+.3f} to {test['high']:+.3f}"


def consistency_tables(consistency: dict[str, Any]) -> list[Table]:
    """Other words, then attributes, as far as they were asked for.

    Args:
        consistency: Of a result.
    """
    tables = []
    if consistency["wordings"]:
        rows = [
            [
                each["kind"],
                f"{each['questions']} of {each['of']}",
                number(each["consistent"]["value"]),
                interval(each["consistent"]),
                *(number(each[key]["value"]) for key in ("right_first", "right_second")),
                number(each["both_right"]["value"]),
            ]
            for each in consistency["wordings"]
        ]
        columns = ["asked again by", "questions", "consistent", "95% interval"]
        columns += ["right as asked", "right again", "both right"]
        note = f"Rules {consistency['rules']}; questions that fit no rule were not asked again."
        tables.append(_table("Does it keep to what it says?", columns, rows, [note]))
    if consistency["attributes"]:
        rows = [
            [
                each["attribute"],
                str(each["pairs"]),
                *(number(each[key]["value"]) for key in ("true_right", "false_right")),
                number(each["both_right"]["value"]),
                interval(each["both_right"]),
            ]
            for each in consistency["attributes"]
        ]
        columns = ["attribute", "pairs", "true affirmed", "false denied", "both", "95% interval"]
        note = "A pair is a true and a false attribute of one image, asked about by yes or no."
        tables.append(_table("True and false attributes", columns, rows, [note]))
    return tables


def repeats_table(repeats: dict[str, Any], labels: Mapping[str, str]) -> Table:
    """Mean and spread of each column over the repetitions.

    Args:
        repeats: Of a result.
        labels: Column to its name.
    """
    rows = []
    for key, spread in repeats["columns"].items():
        values = spread["values"]
        row = [labels[key], number(spread["mean"]["value"]), interval(spread["mean"])]
        row += [number(spread["deviation"]), f"{min(values):.3f} - {max(values):.3f}"]
        rows.append(row)
    for key, label in _AGREEMENT.items():
        rows.append([label, number(repeats[key]["value"]), interval(repeats[key]), "", ""])
    columns = ["metric", "mean", "95% interval", "SD", "lowest - highest"]
    note = "The interval is over images, SD over repetitions (n - 1)."
    title = f"{repeats['repetitions']} repetitions at temperature {repeats['temperature']:g}"
    return _table(title, columns, rows, [note])


_AGREEMENT = {
    "same": "same answer every time",
    "always": "right every time",
    "ever": "right at least once",
}


def controls_picture(controls: dict[str, Any], alone: bool = False) -> str:
    """Accuracy about each picture, a row a group, as SVG.

    Args:
        controls: Of a result.
        alone: For a file of its own, which brings its colours.
    """
    rows = [
        PictureRow(
            _label(group),
            {name: each["value"] for name, each in group["accuracy"].items()},
            (group["accuracy"]["own"]["low"], group["accuracy"]["own"]["high"]),
            f"n {group['questions']}",
        )
        for group in controls["groups"][:MOST_ROWS]
    ]
    return controls_plot(rows, {name: PICTURES[name] for name in rows[0].values}, alone)
