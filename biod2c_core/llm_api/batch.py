"""The Batch API: half the price, answers within a day; submitted so that a kill never pays twice."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from biod2c_core.atomic import write_json
from biod2c_core.errors import BudgetError, EndpointError, InputError
from biod2c_core.foreign import parse_json, read_json
from biod2c_core.llm_api.answers import AnswerReader, Completion, journal_entry
from biod2c_core.llm_api.client import Client
from biod2c_core.llm_api.cost import Usage
from biod2c_core.llm_api.failures import FATAL, CallFailed, Failure, classify_failure, fatal_error
from biod2c_core.llm_api.journal import Journal

MOST_REQUESTS = 50_000  # in one batch
MOST_BYTES = 100 * 2**20  # of one input file; the endpoint's limit is twice that
_MOST_STATE = 512 * 2**20  # bytes of the file of the state
_MOST_LISTED = 10_000  # batches of the account that are looked through
_LONGEST_CALL = 900.0  # seconds of one upload or download
_LOG = logging.getLogger(__name__)
_FINISHED = ("completed", "expired", "cancelled", "failed")
_RUN, _PART = "biod2c_run", "biod2c_part"


@dataclass(frozen=True)
class BatchRequest:
    """One request of a batch."""

    key: str
    messages: list[dict[str, Any]]
    schema: dict[str, Any] | None = None
    image_tokens: int = 765


@dataclass
class SubmittedBatch:
    """One batch at the endpoint.

    Attributes:
        keys: Names of its requests in the journal.
        name: Sent along, so that the batch is found again at the endpoint.
        batch_id: Empty until the endpoint has confirmed it.
        status: The endpoint's word, or ``collected``.
        answered: Requests with a result, by the endpoint's count.
        most_usd: What it may cost at most.
    """

    keys: list[str]
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    batch_id: str = ""
    status: str = "submitting"
    answered: int = 0
    most_usd: float = 0.0


@dataclass
class BatchState:
    """The batches of one run, kept in a file.

    Attributes:
        run: Name of the run, sent along with each batch.
        parts: The batches, in the order of submission.
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    parts: list[SubmittedBatch] = field(default_factory=list)

    @staticmethod
    def load(path: Path) -> BatchState:
        """Read the file, or start a new one.

        Raises:
            InputError: The file is malformed.
        """
        if not path.exists():
            return BatchState()
        try:
            value = read_json(path, _MOST_STATE)
            return BatchState(value["run"], [SubmittedBatch(**part) for part in value["parts"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not the state of a batch", "Restore it from a copy."
            ) from error

    def save(self, path: Path) -> None:
        """Write the file, atomically."""
        write_json(path, asdict(self))

    def outstanding(self) -> set[str]:
        """Keys of requests whose result is still to come."""
        return {key for part in self.parts if part.status != "collected" for key in part.keys}


class Batches:
    """Submits, follows and collects the batches of one run.

    Args:
        client: Key, endpoint, model, price and budget.
        journal: Where results go.
        path: File of the state.
    """

    def __init__(self, client: Client, journal: Journal, path: Path) -> None:
        self._client = client
        self._journal = journal
        self._path = path
        self.state = BatchState.load(path)
        self._reader = AnswerReader(client.redact, client.price, batch=True)

    async def submit(self, requests: Iterable[BatchRequest]) -> int:
        """Submit what is neither answered nor on its way.

        Returns:
            How many requests were submitted.

        Raises:
            BudgetError: The next batch may cost more than is left; it was not submitted.
            EndpointError: The endpoint refused.
        """
        await self._adopt()
        known = self.state.outstanding()
        new = (
            r
            for r in requests
            if r.key not in known and journal_entry(self._journal, r.key) is None
        )
        submitted = 0
        for part, content in self._parts(new):
            self._check_budget(part)
            self.state.parts.append(part)
            self.state.save(self._path)
            await self._create(part, content)
            submitted += len(part.keys)
        return submitted

    async def refresh(self) -> BatchState:
        """Ask how the batches stand."""
        await self._adopt()
        for part in self.state.parts:
            if part.status == "collected":
                continue
            batch = await self._call("batches", "retrieve", part.batch_id)
            part.status = batch.status
            if batch.request_counts is not None:
                counts = batch.request_counts
                part.answered = (counts.completed or 0) + (counts.failed or 0)
        self.state.save(self._path)
        return self.state

    async def collect(self) -> dict[str, str]:
        """Put the results of finished batches into the journal; also those that it has lost since.

        Returns:
            Why a request has no answer, by its key; submit again to ask again.
        """
        failures: dict[str, str] = {}
        await self.refresh()
        for part in self.state.parts:
            pending = self.state.outstanding()  # asked again since
            missing = [k for k in part.keys if journal_entry(self._journal, k) is None]
            lost = part.status == "collected" and bool(set(missing) - pending)
            if part.status not in _FINISHED and not lost:
                continue
            batch = await self._call("batches", "retrieve", part.batch_id)
            for name in filter(None, (batch.output_file_id, batch.error_file_id)):
                content = await self._call("files", "content", name)
                self._take(part, content.content, failures)
            unanswered = [key for key in part.keys if journal_entry(self._journal, key) is None]
            for key in unanswered:
                failures.setdefault(key, f"the batch is {batch.status} without this result")
            part.status = "collected"
            self.state.save(self._path)
        return failures

    def _take(self, part: SubmittedBatch, content: bytes, failures: dict[str, str]) -> None:
        """Journal a file of results; taken twice, it counts once."""
        mine, unusable = set(part.keys), 0
        for line in content.splitlines():
            try:
                row = parse_json(line)
                key, response = row["custom_id"], row.get("response") or {}
                body = response.get("body") or row.get("error")
            except (ValueError, KeyError, TypeError, AttributeError):
                unusable += 1
                continue
            if key not in mine:
                unusable += 1
                continue
            outcome, usage = self._reader.read(body, Usage())
            self._keep(part, key, outcome, usage)
            if not isinstance(outcome, Completion):
                failures[key] = f"{outcome.kind}: {outcome.reason}"
        if unusable:
            _LOG.warning("%s: results that cannot be used: %d", part.batch_id, unusable)

    def _keep(
        self, part: SubmittedBatch, key: str, outcome: Completion | Failure, usage: Usage
    ) -> None:
        """Write one result down with its cost, unless an earlier collection has done so.

        The answer of a request that was answered otherwise in the meantime stands; the batch's is
        charged all the same, so its cost is kept under a name of its own, as that of a failure is.
        """
        charged = f"{part.batch_id} {key}"
        before = journal_entry(self._journal, key)
        seen = before is not None and before.get("batch") == part.batch_id
        if seen or self._journal.get(charged) is not None:
            return
        entry = self._reader.entry(key, outcome, usage)
        if entry is None:
            return
        entry["batch"] = part.batch_id
        if before is not None or "key" not in entry:
            entry["key"] = charged
        self._journal.add(entry)

    def _parts(self, requests: Iterable[BatchRequest]) -> Iterator[tuple[SubmittedBatch, bytes]]:
        part, lines, size = SubmittedBatch([]), list[bytes](), 0
        for request in requests:
            line = self._line(request)
            if part.keys and (len(part.keys) >= MOST_REQUESTS or size + len(line) > MOST_BYTES):
                yield part, b"".join(lines)
                part, lines, size = SubmittedBatch([]), list[bytes](), 0
            part.keys.append(request.key)
            most = self._client.estimate(request.messages, request.schema, request.image_tokens)
            part.most_usd += self._reader.cost(most) or 0.0
            lines.append(line)
            size += len(line)
        if part.keys:
            yield part, b"".join(lines)

    def _line(self, request: BatchRequest) -> bytes:
        body = self._client.payload(request.messages, request.schema, None)
        row = {
            "custom_id": request.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }
        return json.dumps(row).encode() + b"\n"

    def _check_budget(self, part: SubmittedBatch) -> None:
        on_their_way = [p.most_usd for p in self.state.parts if p.status != "collected"]
        limit = self._client.budget.limit
        total = self._journal.spent + sum(on_their_way) + part.most_usd
        if limit is not None and total > limit:
            raise BudgetError(
                f"the next batch may bring the cost to {total:.2f} USD, the budget is {limit:g}",
                "Raise --budget, or submit fewer records with --limit.",
            )

    async def _create(self, part: SubmittedBatch, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            file.write(content)
            file.flush()
            uploaded = await self._call("files", "create", file=Path(file.name), purpose="batch")
        batch = await self._call(
            "batches",
            "create",
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_RUN: self.state.run, _PART: part.name},
        )
        part.batch_id, part.status = batch.id, batch.status
        self.state.save(self._path)

    async def _adopt(self) -> None:
        """Settle parts whose submission was cut off: take up what the endpoint has, drop the rest."""
        if all(part.batch_id for part in self.state.parts):
            return
        theirs: dict[str | None, Any] = {}
        problem: EndpointError | None = None
        try:
            count = 0
            async for batch in self._client.connection().batches.list(limit=100):
                count += 1
                if count > _MOST_LISTED:  # an endpoint whose list has no end
                    break
                if (
                    _names_itself(batch, "batches")
                    and (batch.metadata or {}).get(_RUN) == self.state.run
                ):
                    theirs[(batch.metadata or {}).get(_PART)] = batch
        except Exception as error:
            problem = self._problem(error)
        if problem is not None:
            raise problem
        for part in self.state.parts:
            if not part.batch_id and (batch := theirs.get(part.name)) is not None:
                part.batch_id, part.status = batch.id, batch.status
        self.state.parts = [part for part in self.state.parts if part.batch_id]
        self.state.save(self._path)

    async def _call(self, group: str, method: str, *args: Any, **options: Any) -> Any:
        endpoint = getattr(self._client.connection(), group)
        try:
            call = getattr(endpoint, method)(*args, **options)
            reply = await asyncio.wait_for(call, max(_LONGEST_CALL, self._client.timeout))
            if method == "content" or _names_itself(reply, group):
                return reply
            said = f"{group} {method}: the reply is not a JSON object with an id"
            problem: EndpointError = fatal_error(Failure("protocol", said))
        except Exception as error:
            problem = self._problem(error)
        raise problem  # outside the handler: the original, with its headers, is not chained

    def _problem(self, error: Exception) -> EndpointError:
        failure = classify_failure(error)
        failure = replace(failure, reason=self._client.redact(failure.reason))
        if failure.kind in FATAL:
            return fatal_error(failure)
        return CallFailed(failure.kind, failure.reason)


def _names_itself(reply: Any, group: str) -> bool:
    """Whether a reply has an id, and a batch its status; the client passes on what it cannot read."""
    fields = ("id", "status") if group == "batches" else ("id",)
    return all(isinstance(text := getattr(reply, field, None), str) and text for field in fields)
