"""The boards as one page that needs no network: sortable, with intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biod2c_core.evaluation.report.leaderboard import LEVEL, Board, Entry
from biod2c_core.evaluation.report.tables import interval, number
from biod2c_core.pages import render_page


def leaderboard_html(boards: Sequence[Board]) -> str:
    """The whole page.

    Args:
        boards: One for each data set and convention.
    """
    shown = [
        {
            "title": board.title,
            "profile": board.profile,
            "checksum": board.data["checksum"],
            "columns": list(board.labels.values()),
            "rows": [_row(board, entry) for entry in board.entries],
            "tests": [line for entry in board.entries for line in _tests(board, entry)],
            "notes": board.notes,
        }
        for board in boards
    ]
    return render_page("leaderboard/page", "img-src data:", boards=shown, level=LEVEL).html


def _row(board: Board, entry: Entry) -> dict[str, Any]:
    cells = []
    for key in board.labels:
        estimate = entry.scores.get(key, {})
        value = estimate.get("value")
        kind = "best" if board.best.get(key) == entry.name else ""
        if entry.is_worse(key) is False:
            kind = "level"
        has_interval = estimate.get("low") is not None
        cells.append(
            {
                "text": number(value),
                "sort": -1 if value is None else value,
                "interval": interval(dict(estimate)) if has_interval else "",
                "kind": kind,
            }
        )
    return {
        "name": entry.name,
        "cells": cells,
        "overlap": entry.overlap or ("" if entry.source else "not checked"),
        "remark": entry.source or entry.control,
        "published": bool(entry.source),
    }


def _tests(board: Board, entry: Entry) -> list[dict[str, Any]]:
    return [
        {
            "metric": board.labels[key],
            "first": board.best[key],
            "second": entry.name,
            "difference": f"{-test.difference:+.3f}",
            "interval": "-"
            if test.low is None or test.high is None
            else f"{-test.high:+.3f} - {-test.low:+.3f}",
            "p": f"{test.p_adjusted:.4f}",
            "real": test.p_adjusted < LEVEL,
        }
        for key, test in (entry.tests or {}).items()
    ]
