"""What a person or a script sees: data on stdout, everything else on stderr."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import typer

LOG_EVERY = 30.0  # seconds between lines of progress in a log

# What a terminal obeys instead of showing it: control characters but tab and line feed, marks that turn
# the direction of writing around, and halves of characters (which cannot be written at all).
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_OBEYED = re.compile(f"[{_CONTROL}]")


def visible(text: str) -> str:
    r"""``text`` with everything that a terminal would obey shown as an escape, such as ``\x1b``."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def emit(text: str) -> None:
    """Write one line of data to stdout, control characters as escapes."""
    typer.echo(visible(text))


def one_line(text: str) -> str:
    """A text with its line breaks made blanks, for outputs of one line an item."""
    return " ".join(text.replace("\r", "\n").split("\n"))


def emit_json(value: Any) -> None:
    """Write one JSON value, on one line, to stdout."""
    from biod2c_core.atomic import json_text

    text = json_text(value)
    typer.echo(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))  # still the same JSON


def note(text: str) -> None:
    """Write one line for the person to stderr."""
    typer.echo(visible(text), err=True)


def print_table(title: str, columns: list[str], rows: list[list[str]], left: int = 1) -> None:
    """Write a table for the person to stdout, the first ``left`` columns left, the others right aligned.

    All texts are shown as they are: brackets are not markup, control characters are escapes.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the program with code 1

    if sys.stdout is None:  # closed by the caller
        return
    table = Table(title=Text(visible(title), style="table.title"), title_justify="left")
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index < left else "right"
        table.add_column(Text(visible(column)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # a pipe has no width: its table is as wide as it needs, not folded at 80 columns
    Pipe(width=None if sys.stdout.isatty() else 10_000).print(table)


def stderr_is_terminal() -> bool:
    """Whether a person may be watching."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Any]:
    """Show a progress bar on stderr; where that is not a terminal, a line now and then.

    Yields:
        A function ``advance(n=1)`` to call as the work goes on.
    """
    if not stderr_is_terminal():
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
        TextColumn("{task.description}", markup=False),
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
