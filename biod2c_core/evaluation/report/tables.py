"""Tables once, written as text for the terminal, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from biod2c_core.evaluation.report.masked_text import masked_notes
from biod2c_core.evaluation.score.profiles import get_profile

BEST, SECOND = "best", "second"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What it says.
        mark: ``best`` (bold), ``second`` (underlined) or empty.
    """

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a title above and notes below; the first columns are headings of rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)
    row_headings: int = 1

    def plain_rows(self) -> list[list[str]]:
        """The rows as texts, the best value starred."""
        return [
            [f"*{cell.text}" if cell.mark == BEST else cell.text for cell in row]
            for row in self.rows
        ]


def number(value: float | None, digits: int = 3) -> str:
    """A score for people; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(estimate: dict[str, Any]) -> str:
    """An estimate's confidence interval."""
    return f"{number(estimate['low'])} - {number(estimate['high'])}"


def result_title(result: dict[str, Any]) -> str:
    """One line that says what was measured: model, data, split, profile, checksum."""
    data, profile = result["data"], result["profile"]
    predictions = result.get("predictions") or {}
    model = predictions.get("model", "predictions of another system")
    asked = "".join(f", {text}" for text in how_asked(predictions))
    return (
        f"{model} on {data['source'] or 'records'} {data['split']}{asked}, profile "
        f"{profile['name']} {profile['version']}, data {data['checksum'][:12]}"
    )


def quick_look_note(result: Mapping[str, Any]) -> list[str]:
    """That a result is of the first questions only, where it is."""
    whole = result.get("quick_look_of")
    asked = result["data"]["questions"]
    return [f"A quick look: only the first {asked:,} of {whole:,} questions."] if whole else []


def how_asked(predictions: Mapping[str, Any]) -> list[str]:
    """In which way other than the usual one a predictions file was made.

    Args:
        predictions: Its manifest.
    """
    texts = {
        "shuffle_seed": "images shuffled (seed {})",
        "picture": "picture: {}",
        "prompt": "prompt of {}",
        "temperature": "temperature {:g}",
        "repetition": "repetition {}",
    }
    known = ((text, predictions.get(key)) for key, text in texts.items())
    return [text.format(value) for text, value in known if value is not None]


def labels_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Column to its name, in order: as the result says, else as its profile does today."""
    profile = result["profile"]
    if "columns" in profile:
        return dict(profile["columns"])
    return {metric.key: metric.label for metric in get_profile(profile["name"]).metrics}


def score_table(result: dict[str, Any]) -> Table:
    """The main table of one result: each column with interval, baselines and number of questions."""
    labels = labels_of(result)
    beside_it = {name.replace("_", " "): columns for name, columns in result["baselines"].items()}
    overlap = result["contamination"]
    if overlap and 0 < overlap["seen_images"] < overlap["images"]:
        beside_it["unseen images"] = result["unseen_images_only"]
    rows = []
    for key, estimate in result["scores"].items():
        beside = [number(columns[key]["value"]) for columns in beside_it.values()]
        texts = [
            labels.get(key, key),
            number(estimate["value"]),
            interval(estimate),
            *beside,
            str(estimate["questions"]),
        ]
        rows.append([Cell(text) for text in texts])
    for key, value in result.get("totals", {}).items():
        label = result["profile"]["totals"][key]
        rows.append([Cell(text) for text in (label, number(value), "", *[""] * len(beside_it), "")])
    rows += _judge_rows(result.get("judge"), len(beside_it))
    columns = ["metric", "value", "95% interval", *beside_it, "questions"]
    return Table(result_title(result), columns, rows, notes(result))


def _judge_rows(judge: dict[str, Any] | None, beside: int) -> list[list[Cell]]:
    if judge is None:
        return []
    rows = []
    for name in ("score", "reasonableness", "accuracy", "similarity"):
        estimate = judge[name]
        texts = [f"judge: {name} / 10", number(estimate["value"]), interval(estimate)]
        texts += [""] * beside + [str(estimate["questions"])]
        rows.append([Cell(text) for text in texts])
    return rows


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know beside the numbers."""
    found = []
    if overlap := result["contamination"]:
        found.append(
            f"{overlap['seen_images']} of {overlap['images']} test images are also in the training "
            f"records ({overlap['seen_questions']} of {overlap['questions']} questions), by path or "
            "equal pixels; crops and rescaled copies are not found."
        )
    else:
        found.append("No training records were given: no baselines, no contamination check.")
    if judge := result["profile"].get("judge"):
        found.append(
            f"These numbers depend on the judge {judge['model']} and its rubric "
            f"({judge['rubric']['checksum']}): {judge['asked']} answers were sent to it, "
            f"{judge['undecided']} count as wrong because no reply could be read."
        )
    if judge := result.get("judge"):
        found.append(
            f"Judge {judge['model']}, rubric {judge['rubric']['version']} "
            f"({judge['rubric']['checksum']}): {judge['scored']} answers scored, "
            f"{judge['unscored']} unscored; the score is between "
            f"{number(judge['score_if_unscored_were_0'])} and "
            f"{number(judge['score_if_unscored_were_10'])} whatever those would get."
        )
        if again := judge["agreement_of_passes"]:
            found.append(
                f"Two passes of the judge over {again['answers']} answers: Spearman "
                f"{number(again['spearman']['value'])}, kappa {number(again['kappa']['value'])}, "
                f"mean |difference| {number(again['absolute_difference']['value'])}."
            )
    found += quick_look_note(result)
    if (result.get("predictions") or {}).get("shuffle_seed") is not None:
        found.append("Control run: each question was asked about another question's image.")
    return found + masked_notes(result, labels_of(result))


_MARKDOWN = str.maketrans({"|": "\\|", "\n": " ", "<": "&lt;", ">": "&gt;"})


def to_markdown(table: Table) -> str:
    """The table in Markdown: best value bold, second best underlined."""
    styles = {BEST: "**{}**", SECOND: "<u>{}</u>", "": "{}"}

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [f"**{table.title.translate(_MARKDOWN)}**", ""]
    lines.append(line([column.translate(_MARKDOWN) for column in table.columns]))
    right = len(table.columns) - table.row_headings
    lines.append(line(["---"] * table.row_headings + ["---:"] * right))
    for row in table.rows:
        texts = [styles[cell.mark].format(cell.text.translate(_MARKDOWN)) for cell in row]
        lines.append(line(texts))
    lines += [f"\n{note.translate(_MARKDOWN)}" for note in table.notes]
    return "\n".join(lines) + "\n"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\n": " ",
        **{character: f"\\{character}" for character in "&%$#_"},
    }
)


def to_latex(table: Table) -> str:
    """The table in LaTeX (package booktabs): best value bold, second best underlined."""
    styles = {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}", "": "{}"}
    layout = "l" * table.row_headings + "r" * (len(table.columns) - table.row_headings)
    heading = " & ".join(column.translate(_LATEX) for column in table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{table.title.translate(_LATEX)}}}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        rf"{heading} \\",
        r"\midrule",
    ]
    for row in table.rows:
        texts = [styles[cell.mark].format(cell.text.translate(_LATEX)) for cell in row]
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {note.translate(_LATEX)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"
