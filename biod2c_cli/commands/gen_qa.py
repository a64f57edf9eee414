"""``biod2c gen-qa``: questions and answers from images and captions by a language model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from biod2c_cli import console
from biod2c_cli.options import AsJson, ImageRoot
from biod2c_core.errors import InputError, PartialResultError

if TYPE_CHECKING:
    from biod2c_core.curation.gen_qa import CostEstimate, GenerationSettings
    from biod2c_core.curation.qa_results import Outputs, Summary
    from biod2c_core.data.records import Record
    from biod2c_core.llm_api import Client, Journal

BatchStep = Literal["submit", "status", "collect"]


@dataclass(frozen=True)
class Connection:
    """What the options say about the endpoint."""

    base_url: str | None
    rpm: int | None
    tpm: int | None
    in_flight: int
    timeout: float
    max_tokens: int
    budget: float | None
    prices: Path | None


def gen_qa(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="JSONL, or a known data set, with captions.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="The pairs, as records.")
    ],
    model: Annotated[str, typer.Option(help="Name as the endpoint knows it.")] = "gpt-4o",
    base_url: Annotated[
        str | None, typer.Option(help="The endpoint; by default OPENAI_BASE_URL, else OpenAI's.")
    ] = None,
    budget: Annotated[float | None, typer.Option(metavar="USD", help="Spend no more.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate tokens and cost; send nothing.")
    ] = False,
    batch: Annotated[
        BatchStep | None, typer.Option(help="Use the Batch API: submit, status, collect.")
    ] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests per minute.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens per minute.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds for one request.")] = 60.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Limit of an answer.")] = 512,
    asks: Annotated[
        int, typer.Option(min=1, help="Requests for a record while no pair can be read.")
    ] = 2,
    template: Annotated[
        Path | None, typer.Option(help="Another prompt, with {caption} in it.")
    ] = None,
    image_side: Annotated[int, typer.Option(min=16, help="Scale images down to this side.")] = 1024,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Send no image, for models that see none.")
    ] = False,
    prices: Annotated[Path | None, typer.Option(help="Price table, YAML or JSON.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N records.")] = None,
    image_root: ImageRoot = None,
    as_json: AsJson = False,
) -> None:
    """Generate 2-3 question-answer pairs for each image and caption.

    The key comes from OPENAI_API_KEY. Every answer is kept in OUT.journal.jsonl before it counts, so
    a run that was stopped goes on where it was, and nothing is paid twice. What is not good enough
    goes to OUT.rejected.jsonl with the reason. Exit code 3: some records gave no pair; 4: the budget
    is used up; 5: the endpoint failed.
    """
    from biod2c_core.curation.gen_qa import GenerationSettings
    from biod2c_core.curation.prompts import load_template

    if output.suffix != ".jsonl":
        raise InputError(f"the output {output} is not a .jsonl file", "Name it OUT.jsonl.")
    chosen, root = _read(records, image_root, limit)
    settings = GenerationSettings(model, root, load_template(template), image_side, text_only, asks)
    connection = Connection(base_url, rpm, tpm, in_flight, timeout, max_tokens, budget, prices)
    if dry_run:
        _print_estimate(_estimate(chosen, settings, connection, output, batch), as_json)
    else:
        _run(chosen, settings, connection, output, batch, as_json)


def _read(path: Path, image_root: Path | None, limit: int | None) -> tuple[list[Record], Path]:
    from biod2c_core.curation.gen_qa import records_to_ask
    from biod2c_core.data.formats import image_root as default_root
    from biod2c_core.data.formats import read_records

    records = list(records_to_ask(read_records(path)))[:limit]
    if not records:
        raise InputError(f"{path} holds no record", "Give records with image and caption.")
    if not any(record.caption for record in records):
        raise InputError(f"no record of {path} has a caption", "Give records with a caption.")
    return records, image_root or default_root(path)


def _estimate(
    records: list[Record],
    settings: GenerationSettings,
    connection: Connection,
    output: Path,
    batch: BatchStep | None,
) -> CostEstimate:
    from biod2c_core.curation.gen_qa import estimate_cost, next_ask
    from biod2c_core.curation.qa_results import Outputs
    from biod2c_core.llm_api import Journal, load_price

    captioned = [record for record in records if record.caption]
    path = Outputs.beside(output).journal
    if path.exists():
        with Journal(path) as journal:
            captioned = [r for r in captioned if next_ask(r, settings, journal) is not None]
    price = load_price(settings.model, connection.prices)
    return estimate_cost(captioned, settings, price, connection.max_tokens, batch is not None)


def _run(
    records: list[Record],
    settings: GenerationSettings,
    connection: Connection,
    output: Path,
    batch: BatchStep | None,
    as_json: bool,
) -> None:
    from biod2c_core.curation.qa_batch import refuse_pending
    from biod2c_core.curation.qa_results import Outputs, write_results
    from biod2c_core.llm_api import Journal, read_api_key
    from biod2c_core.llm_api.batch import BatchState

    read_api_key()  # before any file is made
    outputs = Outputs.beside(output)
    answered = outputs.journal.exists() and outputs.journal.stat().st_size > 0  # live, perhaps
    if batch in ("status", "collect") and not (answered or BatchState.load(outputs.batch).parts):
        raise InputError(
            f"no batch was submitted for {output}",
            "Give the --output of --batch submit, or submit one.",
        )
    failures: dict[str, str] = {}
    with Journal(outputs.journal) as journal:
        client = _client(settings.model, connection, journal)
        if batch is None:
            refuse_pending(records, settings, journal, outputs.batch)
        try:
            if batch is not None:
                asyncio.run(_batch_step(batch, records, settings, client, outputs, failures))
            else:
                asyncio.run(_ask_all(records, settings, client, failures, connection.in_flight))
        finally:
            priced = client.price is not None
            summary = write_results(records, settings, journal, failures, outputs, priced)
            _print_summary(summary, outputs, as_json)
    if summary.rejected or summary.failed:
        raise PartialResultError(
            f"{summary.rejected + summary.failed:,} of {summary.records:,} records gave no pair",
            f"Reasons: {outputs.rejected}",
        )


def _client(model: str, connection: Connection, journal: Journal) -> Client:
    from biod2c_core.llm_api import Client, Limiter, load_price

    return Client(
        model,
        connection.base_url,
        limiter=Limiter(connection.rpm, connection.tpm),
        journal=journal,
        budget=connection.budget,
        price=load_price(model, connection.prices),
        max_in_flight=connection.in_flight,
        timeout=connection.timeout,
        max_tokens=connection.max_tokens,
    )


async def _ask_all(
    records: list[Record],
    settings: GenerationSettings,
    client: Client,
    failures: dict[str, str],
    in_flight: int,
) -> None:
    from biod2c_core.curation.gen_qa import generate_pairs

    async with client:
        with console.progress("Asking", len(records)) as advance:
            await generate_pairs(records, client, settings, failures, in_flight, advance)


async def _batch_step(
    step: BatchStep,
    records: list[Record],
    settings: GenerationSettings,
    client: Client,
    outputs: Outputs,
    failures: dict[str, str],
) -> None:
    from biod2c_core.curation.qa_batch import batch_requests, failures_by_record
    from biod2c_core.llm_api.batch import Batches

    assert client.journal is not None
    batches = Batches(client, client.journal, outputs.batch)
    async with client:
        if step == "submit":
            requests = batch_requests(records, settings, client, batches, client.journal, failures)
            console.note(f"{await batches.submit(requests):,} requests submitted")
        elif step == "collect":
            failures |= failures_by_record(records, settings, await batches.collect())
        else:
            await batches.refresh()
    for part in batches.state.parts:
        console.note(f"{part.batch_id}: {part.status}, {part.answered:,} of {len(part.keys):,}")


def _print_estimate(estimate: CostEstimate, as_json: bool) -> None:
    if as_json:
        console.emit_json(vars(estimate))
        return
    rows = [
        ["requests", f"{estimate.requests:,}"],
        ["prompt tokens", f"{estimate.prompt_tokens:,}"],
        ["likely USD", _dollars(estimate.likely_usd)],
        ["at most USD", _dollars(estimate.most_usd)],
        ["unreadable images", f"{estimate.unreadable_images} of {estimate.sampled} sampled"],
    ]
    console.print_table("Estimate (nothing was sent)", ["what", "value"], rows)


def _print_summary(summary: Summary, outputs: Outputs, as_json: bool) -> None:
    if as_json:
        console.emit_json(summary.to_dict())
        return
    counts = ["records", "done", "rejected", "failed", "pending", "pairs", "rejected_pairs"]
    counts += ["prompt_tokens", "completion_tokens"]
    rows = [[name.replace("_", " "), f"{getattr(summary, name):,}"] for name in counts]
    rows.append(["USD", _dollars(summary.usd)])
    rows += [[f"  {name}", f"{count:,}"] for name, count in summary.reasons.most_common()]
    console.print_table(f"{outputs.pairs}", ["what", "value"], rows)


def _dollars(amount: float | None) -> str:
    return "unknown (no price for this model)" if amount is None else f"{amount:.4f}"
