"""Any number of runs side by side: one board for each data set and convention, never mixed.

Within a board every system has answered the same questions and is counted by the same profile, so the
differences can be tested: each system against the best of a column, question by question, the signs
flipped for whole images, corrected by Holm's method over the board.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biod2c_core.data.records import Record, iter_jsonl
from biod2c_core.errors import InputError
from biod2c_core.evaluation.locate import plain_name
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.report.paper_tables import PUBLISHED, NamedResult, read_result
from biod2c_core.evaluation.report.published import TABLE_1, TABLE_1_DATA, TABLE_1_METRICS
from biod2c_core.evaluation.report.tables import (
    BEST,
    Cell,
    Table,
    how_asked,
    interval,
    labels_of,
    number,
)
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.evaluation.statistics.intervals import PairedTest, holm, paired_test
from biod2c_core.foreign import read_json

LEVEL = 0.05
_PROFILE_OF_THE_PAPER = "multimedeval"


@dataclass(frozen=True)
class Entry:
    """One line of a board.

    Attributes:
        name: The system.
        scores: Column to estimate, as in ``result.json``; a published one has a value only.
        overlap: Test images that training has too, of how many; empty where nobody has checked.
        control: How the run was asked where not as usual, such as with shuffled images; and, of one with
            controls, reliance and sensitivity.
        source: Where published numbers come from; empty for a run.
        tests: Column to the test against the best system of that column.
    """

    name: str
    scores: Mapping[str, Mapping[str, Any]]
    overlap: str = ""
    control: str = ""
    source: str = ""
    tests: Mapping[str, PairedTest] | None = None

    def is_worse(self, key: str) -> bool | None:
        """Whether the best of a column is really better; None where this was not tested."""
        test = (self.tests or {}).get(key)
        return None if test is None else test.p_adjusted < LEVEL


@dataclass(frozen=True)
class Board:
    """The systems that one data set and one convention have in common.

    Attributes:
        data: Source, split, checksum and counts, as in ``result.json``.
        profile: Name, version, summary and source of the convention.
        labels: Column to its name, in order; columns that apply to no question are left out.
        entries: The runs, then published numbers of the same convention.
        best: Column to the name of its best run.
        notes: What a reader must know.
    """

    data: Mapping[str, Any]
    profile: Mapping[str, Any]
    labels: Mapping[str, str]
    entries: tuple[Entry, ...]
    best: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Data and convention in a few words."""
        data, profile = self.data, self.profile
        return (
            f"{data['source'] or 'records'} {data['split']} ({data['questions']} questions), "
            f"profile {profile['name']} {profile['version']}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "data": dict(self.data),
            "profile": dict(self.profile),
            "columns": dict(self.labels),
            "best": dict(self.best),
            "entries": [
                {
                    "name": entry.name,
                    "published_in": entry.source or None,
                    "overlap": entry.overlap or None,
                    "control": entry.control or None,
                    "scores": {key: dict(value) for key, value in entry.scores.items()},
                    "against_the_best": {k: vars(v) for k, v in (entry.tests or {}).items()},
                }
                for entry in self.entries
            ],
            "notes": list(self.notes),
        }


def make_boards(arguments: Sequence[str], published: Path | None = None) -> list[Board]:
    """Read runs and lay them side by side.

    Args:
        arguments: Run folders or ``result.json`` files, each also as ``NAME=PATH``.
        published: JSON list of published numbers: ``name``, ``data`` (its source), ``profile``,
            ``scores`` (column to value) and ``reference``.

    Raises:
        InputError: A file cannot be read, two runs of a board share a name, or published numbers are
            by another convention than every run on that data.
    """
    groups: dict[tuple[str, str, str], list[NamedResult]] = {}
    for item in map(read_result, arguments):
        profile = item.result["profile"]
        key = (item.result["data"]["checksum"], profile["name"], str(profile["version"]))
        others = groups.setdefault(key, [])
        if any(other.name == item.name for other in others):
            raise InputError(f"two runs are named {item.name!r}", "Give them names: NAME=RUN.")
        others.append(item)
    rows = _read_published(published) if published else []
    _refuse_other_conventions(rows, [items[0] for items in groups.values()])
    return [_board(items, rows) for items in groups.values()]


def _board(items: Sequence[NamedResult], published: Sequence[Mapping[str, Any]]) -> Board:
    first = items[0].result
    labels = {
        key: label
        for key, label in labels_of(first).items()
        if any(item.result["scores"].get(key, {}).get("questions") for item in items)
    }
    answered = {item.name: _scored_questions(item) for item in items}
    ranked = first["profile"].get("ranked", list(labels))
    best = {key: _best(items, key) for key in labels if key in ranked}
    tests = _tests(answered, best)
    entries = [
        Entry(
            item.name,
            {key: item.result["scores"][key] for key in labels},
            _overlap(item.result),
            _control(item.result),
            tests=tests.get(item.name, {}),
        )
        for item in items
    ]
    notes = []
    if without := [name for name, rows in answered.items() if rows is None]:
        notes.append(f"Not tested, as questions.jsonl is missing: {', '.join(without)}.")
    found = [*_paper_entries(first, labels), *_published_entries(first, published, labels)]
    if not found and _is_of_the_paper(first) and first["profile"]["name"] != _PROFILE_OF_THE_PAPER:
        notes.append(
            f"The paper's numbers for this data are by {_PROFILE_OF_THE_PAPER}, so they are left out."
        )
    return Board(first["data"], first["profile"], labels, (*entries, *found), best, tuple(notes))


def _best(items: Sequence[NamedResult], key: str) -> str:
    values = [(item.result["scores"][key]["value"] or 0.0, item.name) for item in items]
    return max(values, key=lambda pair: pair[0])[1]


def _scored_questions(item: NamedResult) -> dict[str, ScoredQuestion] | None:
    path = item.path.with_name("questions.jsonl")
    if not path.exists():
        return None
    found = {}
    for line, row in iter_jsonl(path):
        try:
            record = Record(row["id"], row["image"], row["question"], row["gold"])
            said = Prediction(row["id"], row["answer"], row["confidence"], line)
            found[record.id] = ScoredQuestion(record, said, _values(row["scores"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}:{line} is not a scored question", "Score again.") from error
    return found


def _values(scores: Any) -> dict[str, float]:
    numbers = isinstance(scores, dict) and all(
        type(value) in (int, float) and math.isfinite(value) for value in scores.values()
    )
    if not numbers:
        raise TypeError(f"no columns with numbers: {str(scores)[:100]}")
    return {name: float(value) for name, value in scores.items()}


def _tests(
    answered: Mapping[str, dict[str, ScoredQuestion] | None], best: Mapping[str, str]
) -> dict[str, dict[str, PairedTest]]:
    """Each system against the best of each column, p corrected over all of these."""
    found: list[tuple[str, str, PairedTest]] = []
    for key, winner in best.items():
        top = answered[winner]
        for name, questions in answered.items():
            if name == winner or not top or not questions:
                continue
            pairs = [
                (question, question.values[key], top[place].values[key])
                for place, question in questions.items()
                if key in question.values and place in top and key in top[place].values
            ]
            if pairs:
                found.append((name, key, paired_test(pairs)))
    tests: dict[str, dict[str, PairedTest]] = {}
    for (name, key, test), p in zip(found, holm([test.p for *_, test in found]), strict=True):
        tests.setdefault(name, {})[key] = replace(test, p_adjusted=p)
    return tests


def _overlap(result: Mapping[str, Any]) -> str:
    found = result.get("contamination")
    return f"{found['seen_images']} of {found['images']}" if found else ""


def _control(result: Mapping[str, Any]) -> str:
    remarks = how_asked(result.get("predictions") or {})
    controls = (result.get("controls") or {}).get("groups")
    if controls and controls[0]["reliance"]:
        whole = controls[0]
        remarks.append(f"reliance {whole['reliance']['difference']:+.3f}")
        remarks.append(f"sensitivity {whole['sensitivity']['value']:.3f}")
    return ", ".join(remarks)


def _is_of_the_paper(result: Mapping[str, Any]) -> bool:
    data = result["data"]
    official = {plain_name(source): size for source, size in TABLE_1_DATA.values()}
    size = official.get(plain_name(data["source"] or ""))
    return (data["split"], data["questions"]) == ("test", size)


def _paper_entries(result: Mapping[str, Any], labels: Mapping[str, str]) -> list[Entry]:
    """The columns of the paper's Table 1, where data, split and convention are the same."""
    if not _is_of_the_paper(result) or result["profile"]["name"] != _PROFILE_OF_THE_PAPER:
        return []
    source = plain_name(result["data"]["source"])
    data = next(name for name, (of, _) in TABLE_1_DATA.items() if plain_name(of) == source)
    return [
        Entry(
            f"{model} {PUBLISHED}",
            {
                key: {"value": value}
                for key, value in zip(TABLE_1_METRICS.values(), values[data], strict=True)
                if key in labels
            },
            source="Table 1 of the BioD2C paper",
        )
        for model, values in TABLE_1.items()
    ]


def _published_entries(
    result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> list[Entry]:
    return [
        Entry(
            f"{row['name']} {PUBLISHED}",
            {key: {"value": value} for key, value in row["scores"].items() if key in labels},
            source=row["reference"],
        )
        for row in rows
        if plain_name(row["data"]) == plain_name(result["data"]["source"] or "")
        and row["profile"] == result["profile"]["name"]
    ]


def _read_published(path: Path) -> list[dict[str, Any]]:
    try:
        rows = read_json(path)
        for row in rows:
            wanted = ("name", "data", "profile", "reference")
            if any(not isinstance(row[key], str) or not row[key] for key in wanted):
                raise ValueError("a text is missing")
            for value in row["scores"].values():
                if isinstance(value, bool) or not 0 <= value <= 1:
                    raise ValueError("a score is not between 0 and 1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a list of published numbers ({error})",
            "It is JSON: [{name, data, profile, scores: {column: 0..1}, reference}, ...].",
        ) from error
    found: list[dict[str, Any]] = rows
    return found


def _refuse_other_conventions(
    rows: Sequence[Mapping[str, Any]], boards: Sequence[NamedResult]
) -> None:
    for row in rows:
        profiles = {
            item.result["profile"]["name"]
            for item in boards
            if plain_name(item.result["data"]["source"] or "") == plain_name(row["data"])
        }
        if profiles and row["profile"] not in profiles:
            raise InputError(
                f"the published numbers of {row['name']} on {row['data']} are by "
                f"{row['profile']!r}, the runs by {', '.join(sorted(map(repr, profiles)))}",
                f"Score the runs again with --profile {row['profile']}, or leave these numbers out.",
            )


def board_table(board: Board) -> Table:
    """A board for the terminal: the best in bold, ``~`` where the best is not really better."""
    rows = []
    for entry in board.entries:
        cells = [Cell(entry.name)]
        for key in board.labels:
            estimate = entry.scores.get(key, {})
            text = number(estimate.get("value"))
            if estimate.get("low") is not None:
                text += f" ({interval(dict(estimate))})"
            if entry.is_worse(key) is False:
                text += " ~"
            cells.append(Cell(text, BEST if board.best.get(key) == entry.name else ""))
        cells.append(Cell(entry.overlap or ("-" if entry.source else "not checked")))
        cells.append(Cell(entry.source or entry.control))
        rows.append(cells)
    notes = [
        "Best of a column marked; ~: the best is not really better (paired test over images, Holm "
        f"over the table, p >= {LEVEL}).",
        *board.notes,
    ]
    columns = ["system", *board.labels.values(), "images in training", "remark"]
    return Table(board.title, columns, rows, notes)
