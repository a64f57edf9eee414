"""Questions and answers from image and caption by a language model (section 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biod2c_core.curation.prompts import (
    PAIRS_SCHEMA,
    PAPER_PROMPT,
    chat_messages,
    fill,
    shrink_to_jpeg,
)
from biod2c_core.curation.qa_gates import GateLimits
from biod2c_core.curation.qa_parsing import parse_pairs
from biod2c_core.data.images import resolve_image
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError
from biod2c_core.llm_api import CallFailed, Client, Journal, Price, request_key, run_all
from biod2c_core.llm_api.answers import journal_entry
from biod2c_core.llm_api.cost import Usage, prompt_tokens

_AHEAD = 8  # images prepared while all requests are in flight
_SAMPLE = 200  # records that an estimate looks at
_LIKELY_ANSWER = 220  # tokens of three pairs
_IMAGE_TOKENS = 765  # of a 1024 x 1024 image, for models that the price table does not have


@dataclass(frozen=True)
class GenerationSettings:
    """How pairs are asked for.

    Attributes:
        model: Name as the endpoint knows it; recorded with each pair.
        image_root: Folder that the records' images are relative to.
        template: The prompt, with ``{caption}`` and optionally ``{image-url}``.
        longest_side: Images are scaled down to this many pixels.
        text_only: Send no image, for models that see none.
        asks: How often a record is asked while no pair can be read from the answer.
        limits: Bounds of the quality gates.
    """

    model: str
    image_root: Path
    template: str = PAPER_PROMPT
    longest_side: int = 1024
    text_only: bool = False
    asks: int = 2
    limits: GateLimits = field(default_factory=GateLimits)

    def key(self, record: Record, ask: int) -> str:
        """Name of a request in the journal: it changes with whatever changes the request."""
        side = 0 if self.text_only else self.longest_side
        asked = (record.id, record.image, record.caption, ask)
        return request_key("gen-qa", self.model, self.template, side, *asked)


@dataclass(frozen=True)
class ChatRequest:
    """What is sent for one record."""

    messages: list[dict[str, Any]]
    image_tokens: int


def records_to_ask(records: Iterable[Record]) -> Iterator[Record]:
    """The records to ask about: one for each image and caption, however many questions they had."""
    seen: set[tuple[str, str]] = set()
    for record in records:
        if (record.image, record.caption) not in seen:
            seen.add((record.image, record.caption))
            yield record


def build_request(record: Record, settings: GenerationSettings, price: Price | None) -> ChatRequest:
    """Make the chat messages of a record.

    Raises:
        ImageError: Its image is missing, unreadable, over the limits or outside the image root.
    """
    prompt = fill(settings.template, record.caption)
    if settings.text_only:
        return ChatRequest(chat_messages(prompt, None), 0)
    source = resolve_image(settings.image_root, record.image)
    jpeg, (width, height) = shrink_to_jpeg(source, settings.longest_side)
    tokens = price.image_tokens(width, height) if price else _IMAGE_TOKENS
    return ChatRequest(chat_messages(prompt, jpeg), tokens)


def next_ask(record: Record, settings: GenerationSettings, journal: Journal) -> int | None:
    """Number of the next request that this record needs, or None where it has its outcome."""
    for ask in range(settings.asks):
        entry = journal_entry(journal, settings.key(record, ask))
        if entry is None:
            return ask
        if "refusal" in entry or parse_pairs(entry["text"]):
            return None
    return None


async def generate_pairs(
    records: Iterable[Record],
    client: Client,
    settings: GenerationSettings,
    failures: dict[str, str],
    in_flight: int,
    advance: Callable[[int], None],
) -> None:
    """Ask about every record until its outcome is in the client's journal.

    Args:
        records: What to ask about; each needs a caption.
        client: With a journal.
        settings: How to ask.
        failures: Gets, by record id, why a record has no outcome yet.
        in_flight: Requests at once; a few more images are prepared ahead.
        advance: Called with 1 for each record that has its outcome.

    Raises:
        BudgetError: The budget is used up.
        EndpointError: The endpoint is down or refuses everything.
    """
    journal = client.journal
    assert journal is not None

    async def work(record: Record) -> None:
        request: ChatRequest | None = None
        while record.caption and (ask := next_ask(record, settings, journal)) is not None:
            try:
                if request is None:
                    request = await asyncio.to_thread(build_request, record, settings, client.price)
                await client.complete(
                    request.messages,
                    PAIRS_SCHEMA,
                    key=settings.key(record, ask),
                    image_tokens=request.image_tokens,
                )
            except CallFailed as error:
                if error.kind != "refusal":
                    failures[record.id] = f"{error.kind}: {error.reason}"
                break
            except ImageError as error:
                failures[record.id] = f"image: {error.problem}"
                break
        advance(1)

    await run_all(records, work, in_flight + min(in_flight, _AHEAD), grace=client.timeout)


@dataclass(frozen=True)
class CostEstimate:
    """What a run would cost, from a sample of its records.

    Attributes:
        requests: Requests to send; those in the journal are not counted.
        prompt_tokens: Of all of them together.
        likely_usd: With answers of a usual length; None where the model's price is unknown.
        most_usd: With every answer as long as it may be.
        unreadable_images: How many of the ``sampled`` images cannot be read.
        sampled: How many records were sampled.
    """

    requests: int
    prompt_tokens: int
    likely_usd: float | None
    most_usd: float | None
    unreadable_images: int
    sampled: int


def estimate_cost(
    records: list[Record],
    settings: GenerationSettings,
    price: Price | None,
    max_tokens: int,
    batch: bool = False,
) -> CostEstimate:
    """Estimate tokens and cost without sending anything; see ``Estimate``."""
    chosen = records[:: max(1, len(records) // _SAMPLE)]
    tokens, unreadable = 0, 0
    for record in chosen:
        try:
            request = build_request(record, settings, price)
            tokens += prompt_tokens(request.messages, request.image_tokens)
        except ImageError:
            unreadable += 1
    readable = len(chosen) - unreadable
    count = round(len(records) * readable / len(chosen)) if chosen else 0
    total = round(tokens / readable * count) if readable else 0
    likely = Usage(total, count * min(_LIKELY_ANSWER, max_tokens))
    most = Usage(total, count * max_tokens)
    return CostEstimate(
        count,
        total,
        price.cost(likely, batch) if price else None,
        price.cost(most, batch) if price else None,
        unreadable,
        len(chosen),
    )
