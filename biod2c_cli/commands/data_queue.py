"""``biod2c data queue``: the text queue of section 3.2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biod2c_cli import console
from biod2c_cli.options import AsJson
from biod2c_core.errors import InputError

if TYPE_CHECKING:
    from biod2c_core.curation.retrieval import Knowledge
    from biod2c_core.data.records import Record

OWN_CAPTIONS = "captions"


def queue(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="JSONL, or a known data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="JSONL to write.")],
    knowledge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Knowledge base to top queues up from: .jsonl, .json or text lines; 'captions' "
            "for the captions of the whole set. May be given more than once.",
        ),
    ] = None,
    k: Annotated[int, typer.Option(help="Texts for each image.")] = 30,
    encoder: Annotated[
        Path | None,
        typer.Option(help="Local folder of a sentence encoder: dense retrieval instead of BM25."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the encoder runs.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Give each record texts that are related to its image, and never hold its own answer.

    Noun phrases and clauses of the caption come first, then what other records of the same split say
    about the image, then the best matches in the knowledge base. Deterministic, and offline.
    """
    from biod2c_core.curation.text_queue import QueueBuilder
    from biod2c_core.data.formats import read_records
    from biod2c_core.data.records import write_records

    records = list(read_records(data))
    builder = QueueBuilder(records, _knowledge(knowledge or [], records, encoder, device), k)
    with console.progress("Queues", len(records)) as advance:

        def built() -> Iterator[Record]:
            for record in records:
                yield builder.build(record)
                advance(1)

        write_records(output, built())
    report = builder.report
    if as_json:
        console.emit_json(vars(report))
    else:
        console.emit(
            f"{report.records:,} records, {report.full:,} with all {k} texts; of {report.texts:,} "
            f"texts {report.from_caption:,} from the caption, {report.from_image:,} from the "
            f"image's other records, {report.from_knowledge:,} from the knowledge base"
        )


def _knowledge(
    sources: list[str], records: list[Record], encoder: Path | None, device: str
) -> Knowledge | None:
    from biod2c_core.curation.retrieval import Knowledge, captions_as_entries, load_entries

    if not sources:
        if encoder is not None:
            raise InputError("an encoder without a knowledge base", "Give one with --knowledge.")
        return None
    entries = []
    for source in sources:
        if source == OWN_CAPTIONS:
            entries += captions_as_entries(record.caption for record in records if record.caption)
        else:
            entries += load_entries(source)
    return Knowledge(entries, encoder, device) if entries else None
