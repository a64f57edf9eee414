"""``biod2c data scrub-text``, and what ``biod2c data validate --text`` shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from biod2c_cli import console
from biod2c_cli.options import AsJson, ImageRoot
from biod2c_core.errors import InputError, PartialResultError, counted

if TYPE_CHECKING:
    from biod2c_core.data.burnt_text import TextReport

MOST_LINES = 20  # on the terminal
MinConfidence = Annotated[
    Optional[float],  # noqa: UP045 (Typer evaluates this on Python 3.10 too)
    typer.Option(
        min=0, max=1, help="Leave out text that is read with less confidence. [default: 0.5]"
    ),
]


def text_finder(
    wanted: bool,
    root: Path,
    output: Path | None,
    workers: int,
    min_confidence: float | None,
    advance: Callable[[int], object],
) -> Callable[[list[str]], TextReport] | None:
    """What ``validate`` looks for text with; what it has read stands beside the report."""
    if not wanted:
        if min_confidence is not None:
            raise InputError("--min-confidence without --text", "Give both, or neither.")
        return None
    if output is None:
        raise InputError("--text keeps what it has read beside the report", "Give -o OUT.")
    from biod2c_core.data.burnt_text import MIN_CONFIDENCE, find_text, require_reader
    from biod2c_core.data.scrub_text import journal_of

    require_reader()
    journal = journal_of(output.with_suffix(""))

    def find(names: list[str]) -> TextReport:
        return find_text(
            names,
            root,
            journal,
            min_confidence=MIN_CONFIDENCE if min_confidence is None else min_confidence,
            workers=workers,
            advance=advance,
        )

    return find


def print_text(found: list[dict[str, Any]]) -> None:
    """Show the first lines of text that were found, if there are any."""
    rows = [
        [
            row["image"],
            each["text"],
            " ".join(f"{share:.2f}" for share in each["box"]),
            f"{each['confidence']:.2f}",
        ]
        for row in found
        for each in row["texts"]
    ]
    if not rows:
        return
    title = f"Text in {counted(len(found), 'image')}: {counted(len(rows), 'line')}"
    title += f", the first {MOST_LINES}" if len(rows) > MOST_LINES else ""
    columns = ["image", "text", "left top right bottom", "confidence"]
    console.print_table(title, columns, rows[:MOST_LINES])


def scrub_text(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="JSONL, or a known data set.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    image_root: ImageRoot = None,
    min_confidence: MinConfidence = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that look for text.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Copy a data set, the text in its pictures blacked out.

    Pictures and records keep their names; DICOM, NIfTI and what else cannot keep its format is
    written as PNG. What was read goes to OUT.text.jsonl, beside the copies and not among them.
    It misses text that is small or faint: look through the pictures before giving them away.
    """
    from biod2c_core.data.burnt_text import MIN_CONFIDENCE
    from biod2c_core.data.scrub_text import journal_of
    from biod2c_core.data.scrub_text import scrub_text as scrub

    report = scrub(
        data,
        output,
        images=image_root,
        min_confidence=MIN_CONFIDENCE if min_confidence is None else min_confidence,
        workers=workers,
        progress=lambda steps: console.progress("Read, then written", steps),
    )
    if as_json:
        console.emit_json(report.to_json())
    else:
        print_text(report.found.to_json())
        console.emit(
            f"{counted(report.records, 'record')} and {counted(report.found.images, 'image')} "
            f"written to {output}, {len(report.found.texts):,} of them masked; "
            f"what was read: {journal_of(output)}"
        )
    if report.renamed:
        first, new = next(iter(report.renamed.items()))
        console.note(
            f"written as PNG: {counted(len(report.renamed), 'image')}, the first {first} as {new}"
        )
    if report.left_out:
        name, problem = next(iter(report.found.unreadable.items()))
        raise PartialResultError(
            f"records left out, their images cannot be read: {report.left_out:,}",
            f"The first image: {name}: {problem}",
        )
