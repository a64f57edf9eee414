"""Several results side by side, in the layout of the paper's Tables 1 and 2, beside its own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.errors import InputError
from biod2c_core.evaluation.locate import plain_name
from biod2c_core.evaluation.report.published import (
    TABLE_1,
    TABLE_1_DATA,
    TABLE_1_METRICS,
    TABLE_1_PRINTED_AVERAGES,
    TABLE_2,
    TABLE_2_SOURCE,
)
from biod2c_core.evaluation.report.tables import BEST, SECOND, Cell, Table, number
from biod2c_core.foreign import read_json, real_path

PUBLISHED = "(published)"


@dataclass(frozen=True)
class NamedResult:
    """A ``result.json`` and the name it gets in a table."""

    name: str
    path: Path
    result: Mapping[str, Any]


def read_result(argument: str) -> NamedResult:
    """Read a result of any profile.

    Args:
        argument: A run folder or its ``result.json``, optionally as ``NAME=PATH``. The default name
            is the model's, with its control named, else the folder's.

    Raises:
        InputError: It cannot be read.
    """
    name, _, place = argument.rpartition("=")
    path = Path(place)
    path = path / "result.json" if path.is_dir() else path
    try:
        result = read_json(path)
        predictions = result["predictions"] or {}
        default = predictions.get("model") or real_path(path).parent.name
        _ = result["profile"]["name"], result["data"]["source"]
        for score in result["scores"].values():
            numbers = [score["value"], score.get("low"), score.get("high")]
            _ = [float(found) for found in numbers if found is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_a_result(path) from error
    if predictions.get("shuffle_seed") is not None:
        default += ", images shuffled"
    return NamedResult(name or default, path, result)


def _not_a_result(path: Path) -> InputError:
    """What lies there instead of a result, where that can be told."""
    folder = path.parent
    if path.name == "profiles.json" or (folder / "profiles.json").exists():
        return InputError(
            f"{folder} was scored by all profiles, and a table takes results of one",
            "Score its predictions by one: biod2c evaluate DATA --predictions "
            f"{folder / 'predictions.jsonl'} --profile NAME -o FOLDER.",
        )
    if (folder / "run.json").exists() and (folder / "config.yaml").exists():
        return InputError(
            f"{folder} is a training run, not an evaluation",
            f"Leave it out, or evaluate its model: biod2c evaluate DATA --model {folder / 'model'}.",
        )
    return InputError(
        f"{path} is not a result of biod2c evaluate",
        "Name the folder that 'biod2c evaluate -o' wrote, or its result.json.",
    )


def load_result(argument: str) -> NamedResult:
    """Read a result for the paper's tables; see :func:`read_result`.

    Raises:
        InputError: It cannot be read, or is not by the profile ``multimedeval``.
    """
    found = read_result(argument)
    profile = found.result["profile"]["name"]
    if profile != "multimedeval":
        raise InputError(
            f"{found.path} was scored by the profile {profile!r}, the paper's tables by 'multimedeval'",
            "Score its predictions again with --profile multimedeval.",
        )
    return found


def _marked(values: Sequence[float | None]) -> list[Cell]:
    """Cells of one comparison, the best and the second best value marked."""
    ranks = sorted({round(value, 3) for value in values if value is not None}, reverse=True)
    marks = dict(zip(ranks, (BEST, SECOND), strict=False))
    return [
        Cell(number(value), "" if value is None else marks.get(round(value, 3), ""))
        for value in values
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _table_1_columns(results: Sequence[NamedResult]) -> dict[str, dict[str, NamedResult]]:
    """Name -> data set of the paper -> result.

    Raises:
        InputError: A result is for other data, or two have the same name and data.
    """
    names = {plain_name(source): data for data, (source, _) in TABLE_1_DATA.items()}
    columns: dict[str, dict[str, NamedResult]] = {}
    for item in results:
        source = plain_name(item.result["data"]["source"])
        if source not in names:
            raise InputError(
                f"{item.path} is about {item.result['data']['source'] or 'unnamed records'!r}, "
                "which Table 1 has not",
                f"Its data sets are {', '.join(source for source, _ in TABLE_1_DATA.values())}.",
            )
        column = columns.setdefault(item.name, {})
        if names[source] in column:
            raise InputError(
                f"two results named {item.name!r} are about {source}: "
                f"{column[names[source]].path} and {item.path}",
                "Give them names: NAME=RUN.",
            )
        column[names[source]] = item
    return columns


def table_1(results: Sequence[NamedResult]) -> Table:
    """Data sets and metrics by rows, models by columns, the paper's six published columns first.

    Averages are recomputed from the cells; where the paper prints another number, a note says so.

    Raises:
        InputError: A result does not belong into this table.
    """
    ours = _table_1_columns(results)
    rows, totals = [], []
    for data in TABLE_1_DATA:
        for index, (label, key) in enumerate(TABLE_1_METRICS.items()):
            values: list[float | None] = [TABLE_1[model][data][index] for model in TABLE_1]
            for column in ours.values():
                item = column.get(data)
                values.append(item.result["scores"][key]["value"] if item else None)
            totals.append(values)
            rows.append([Cell(data if index == 0 else ""), Cell(label), *_marked(values)])
    averages = [_mean(column) for column in zip(*totals, strict=True)]
    rows.append([Cell("Average"), Cell(""), *_marked(averages)])
    headings = ["Dataset", "Metric", *(f"{model} {PUBLISHED}" for model in TABLE_1), *ours]
    title = "Table 1. Published columns as the paper prints them; the others measured."
    return Table(title, headings, rows, [*_table_1_notes(averages), *_size_notes(results)], 2)


def _table_1_notes(averages: Sequence[float | None]) -> list[str]:
    wrong = [
        f"{model} {printed:.3f} (recomputed {average:.3f})"
        for (model, printed), average in zip(
            TABLE_1_PRINTED_AVERAGES.items(), averages, strict=False
        )
        if average is not None and abs(average - printed) > 0.0015
    ]
    notes = [
        'All columns by MultiMedEval\'s definitions. The paper prints open ACC as "opened ACC" and '
        'token recall as "ROUGE-1", which it is not.',
        "BioMedGPT's RAD-VQA and Path-VQA values are LLaVA-Med's in the paper's source.",
        "Averages are recomputed from the twelve cells.",
    ]
    return notes + ([f"The paper prints other averages: {', '.join(wrong)}."] if wrong else [])


def _size_notes(results: Sequence[NamedResult]) -> list[str]:
    """Which results are not about the official test split, going by split name and size."""
    official = {plain_name(source): size for source, size in TABLE_1_DATA.values()}
    found = []
    for item in results:
        data = item.result["data"]
        size = official[plain_name(data["source"])]
        if (data["split"], data["questions"]) != ("test", size):
            found.append(
                f"{item.name} on {data['source']}: {data['questions']} questions of split "
                f"{data['split'] or 'none'}, not the official test split of {size}."
            )
    return found


def table_2(results: Sequence[NamedResult]) -> Table:
    """Variants by rows: BLEU-1, token recall, GPT score and their average, on the BioVGQ test set.

    The GPT score is divided by ten; without a judge's scores there is none, and no average.

    Raises:
        InputError: A result is not about BioVGQ.
    """
    lines: list[tuple[str, list[float | None]]] = [
        (f"{name} {PUBLISHED}", list(values)) for name, values in TABLE_2.items()
    ]
    for item in results:
        if plain_name(item.result["data"]["source"]) != TABLE_2_SOURCE:
            raise InputError(
                f"{item.path} is about {item.result['data']['source']!r}, Table 2 is about "
                f"{TABLE_2_SOURCE!r}",
                "Use --paper-table 1.",
            )
        scores, judge = item.result["scores"], item.result.get("judge")
        gpt = judge["score"]["value"] if judge else None
        values = [scores["bleu_1"]["value"], scores["token_recall"]["value"]]
        lines.append((item.name, [*values, None if gpt is None else gpt / 10]))
    complete = [[*values, _mean(values)] for _, values in lines]
    columns = [_marked(column) for column in zip(*complete, strict=True)]
    rows = [
        [Cell(name), *(column[index] for column in columns)]
        for index, (name, _) in enumerate(lines)
    ]
    notes = [
        'The paper prints token recall as "ROUGE-1", as in Table 1.',
        "GPT score divided by ten. The paper publishes neither the judge's prompt nor its version, so "
        "its published GPT scores are not comparable with any other.",
    ]
    title = "Table 2. Published rows as the paper prints them; the others measured."
    return Table(title, ["", "BLEU-1", "token recall", "GPT score / 10", "Average"], rows, notes)


def to_json(table: Table) -> dict[str, Any]:
    """The table as JSON-ready values: title, columns, rows of texts, notes."""
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [[cell.text for cell in row] for row in table.rows],
        "notes": list(table.notes),
    }
