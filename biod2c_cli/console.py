"""What a person or a script sees: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

LOG_EVERY = 30.0  # seconds between lines of progress in a log


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


def print_table(title: str, columns: list[str], rows: list[list[str]], left: int = 1) -> None:
    """Write a table for the person to stdout, the first ``left`` columns left, the others right aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # a pipe has no width: its table is as wide as it needs, not folded at 80 columns
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Any]:
    """Show a progress bar on stderr; where that is not a terminal, a line now and then.

    Yields:
        A function ``advance(n=1)`` to call as the work goes on.
    """
    if not sys.stderr.isatty():
        yield _Lines(description, total)
        return
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
        yield lambda n=1: bar.advance(task, n)


class _Lines:
    """Progress for a log: a line each half minute, none for what is done sooner."""

    def __init__(self, description: str, total: int | None) -> None:
        self._head, self._tail = description, "" if total is None else f" of {total}"
        self._done, self._said = 0, time.monotonic()

    def __call__(self, n: int = 1) -> None:
        self._done += n
        if time.monotonic() - self._said >= LOG_EVERY:
            self._said = time.monotonic()
            note(f"{self._head}: {self._done}{self._tail}")
