"""``gen-qa`` through the Batch API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from biod2c_core.curation.gen_qa import GenerationSettings, build_request, next_ask
from biod2c_core.curation.prompts import PAIRS_SCHEMA
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError, InputError
from biod2c_core.llm_api import Client, Journal
from biod2c_core.llm_api.batch import Batches, BatchRequest, BatchState


def batch_requests(
    records: Iterable[Record],
    settings: GenerationSettings,
    client: Client,
    batches: Batches,
    journal: Journal,
    failures: dict[str, str],
) -> Iterator[BatchRequest]:
    """The requests to submit: what has no outcome yet and is not on its way.

    Args:
        records: What to ask about.
        settings: How.
        client: Its price counts the images.
        batches: The batches so far.
        journal: The answers so far.
        failures: Gets, by record id, why a record cannot be asked about.
    """
    on_their_way = batches.state.outstanding()
    for record in records:
        ask = next_ask(record, settings, journal)
        if not record.caption or ask is None or settings.key(record, ask) in on_their_way:
            continue
        try:
            request = build_request(record, settings, client.price)
        except ImageError as error:
            failures[record.id] = f"image: {error.problem}"
            continue
        key = settings.key(record, ask)
        yield BatchRequest(key, request.messages, PAIRS_SCHEMA, request.image_tokens)


def refuse_pending(
    records: Iterable[Record], settings: GenerationSettings, journal: Journal, path: Path
) -> None:
    """Refuse to ask now what a batch has been asked already: both would be charged.

    Args:
        records: What is to be asked about.
        settings: How.
        journal: The answers so far.
        path: File of the batches' state.

    Raises:
        InputError: Some of the records wait for a batch.
    """
    on_their_way = BatchState.load(path).outstanding()
    if not on_their_way:
        return
    waiting = 0
    for record in records:
        ask = next_ask(record, settings, journal) if record.caption else None
        waiting += ask is not None and settings.key(record, ask) in on_their_way
    if waiting:
        raise InputError(
            f"{waiting:,} of these records are in a batch that is not collected yet",
            "Get its answers with --batch collect; asked again now, both would be charged.",
        )


def failures_by_record(
    records: Iterable[Record], settings: GenerationSettings, by_key: dict[str, str]
) -> dict[str, str]:
    """Turn failures by request into failures by record."""
    found = {}
    for record in records:
        for ask in range(settings.asks):
            if (reason := by_key.get(settings.key(record, ask))) is not None:
                found[record.id] = reason
    return found
