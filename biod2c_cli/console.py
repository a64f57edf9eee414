"""What a person or a script sees: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer


def emit(text: str) -> None:
    """Write one line of data to stdout."""
    typer.echo(text)


def one_line(text: str) -> str:
    """A text with its line breaks made blanks, for outputs of one line an item."""
    return " ".join(text.replace("\r", "\n").split("\n"))


def emit_json(value: Any) -> None:
    """Write one JSON value, on one line, to stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def note(text: str) -> None:
    """Write one line for the person to stderr."""
    typer.echo(text, err=True)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Write a table for the person to stdout, first column left, the others right aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # a pipe has no width: its table is as wide as it needs, not folded at 80 columns
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Any]:
    """Show a progress bar on stderr.

    Yields:
        A function ``advance(n=1)`` to call as the work goes on.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(description, total=total)
        waiting, due = 0, 0.0

        def advance(n: int = 1) -> None:
            # ten times a second: drawing takes longer than reading a row
            nonlocal waiting, due
            waiting += n
            if (now := time.monotonic()) >= due:
                bar.advance(task, waiting)
                waiting, due = 0, now + 0.1

        try:
            yield advance
        finally:
            bar.advance(task, waiting)
