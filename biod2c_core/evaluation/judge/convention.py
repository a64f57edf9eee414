"""The verdicts of a language model on which a scoring convention rests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open, json_text
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.judge.bill import Bill, Messages
from biod2c_core.evaluation.judge.judge_run import Judging
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.profiles import Profile
from biod2c_core.evaluation.score.profiles.base import JudgeRule
from biod2c_core.llm_api import CallFailed, Client, Journal, request_key, run_all

_LIKELY_REPLY = 120  # tokens; conventions ask for a reason first


@dataclass(frozen=True)
class ConventionVerdicts:
    """What the judge of a convention said.

    Attributes:
        model: The judge, as its endpoint knows it.
        rubric: What it was asked, with places for the texts.
        verdicts: Id to 1 (right) or 0 (wrong), of the questions that were sent.
        undecided: Ids of those that count as wrong because no reply could be read.
        failed: Ids of those among them that no reply came to.
        usd: Spent on the journal so far; None where the judge's price is unknown.
    """

    model: str
    rubric: str
    verdicts: Mapping[str, float] = field(default_factory=dict)
    undecided: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What must stand beside the numbers, as JSON-ready values."""
        checksum = hashlib.sha256(self.rubric.encode()).hexdigest()[:12]
        return {
            "model": self.model,
            "rubric": {"checksum": checksum, "text": self.rubric},
            "asked": len(self.verdicts),
            "undecided": len(self.undecided),
            "failed": len(self.failed),
            "usd": self.usd,
        }


@dataclass(frozen=True)
class _Verdict:
    """On one answer: 1 or 0, whether a reply decided it, and whether any came."""

    value: float = 0.0
    decided: bool = False
    answered: bool = False


async def _decide(
    record: Record, prediction: Prediction, rule: JudgeRule, client: Client
) -> _Verdict:
    messages = rule.messages(record, prediction.answer)
    answered = False
    for attempt, temperature in enumerate(rule.temperatures):
        key = _key(client, messages, temperature, attempt)
        try:
            reply = await client.complete(messages, temperature=temperature, key=key)
        except CallFailed as error:
            answered |= error.kind == "refusal"
            continue
        answered = True
        if (verdict := rule.read(reply.text)) is not None:
            return _Verdict(verdict, decided=True, answered=True)
    return _Verdict(answered=answered)


def _key(client: Client, messages: Messages, temperature: float, attempt: int) -> str:
    return request_key(client.base_url, client.model, messages, temperature, attempt)


def _first_requests(
    asked: Sequence[Record],
    predictions: Mapping[str, Prediction],
    rule: JudgeRule,
    client: Client,
) -> dict[str, Messages]:
    texts = (rule.messages(record, predictions[record.id].answer) for record in asked)
    return {_key(client, messages, rule.temperatures[0], 0): messages for messages in texts}


def ask_convention(
    records: Sequence[Record],
    predictions: Mapping[str, Prediction],
    profile: Profile,
    judging: Judging,
    run: Path,
    progress: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> ConventionVerdicts:
    """Ask a convention's judge about the answers that it decides on.

    Replies are kept in ``PROFILE.journal.jsonl`` in the run folder before they count, so running again
    asks only for what is missing; the verdicts stand in ``PROFILE.verdicts.jsonl``.

    Args:
        records: The questions.
        predictions: Id to answer; one for each question.
        profile: A convention with a judge.
        judging: Which model, and how to reach it.
        run: The run folder.
        progress: Given the number of questions, a context whose value is called with each number done.

    Raises:
        InputError: The profile has no judge, or the endpoint cannot be used as given.
        BudgetError: The budget does not cover a request.
        EndpointError: The endpoint is down or refuses everything.
    """
    rule = profile.judge
    if rule is None:
        raise InputError(f"the profile {profile.name!r} asks no judge", "Leave out --judge.")
    asked = [record for record in records if rule.applies(record)]
    found: dict[str, _Verdict] = {}
    with Journal(run / f"{profile.name}.journal.jsonl") as journal, progress(len(asked)) as done:

        async def ask_all() -> None:
            async with judging.endpoint.client(judging.model, journal) as client:
                bill = Bill(judging.tell, client, _LIKELY_REPLY, len(rule.temperatures))
                bill.before(_first_requests(asked, predictions, rule, client))

                async def work(record: Record) -> None:
                    found[record.id] = await _decide(record, predictions[record.id], rule, client)
                    done(1)
                    bill.one_more()

                try:
                    await run_all(asked, work, judging.endpoint.in_flight)
                finally:
                    bill.after()

        asyncio.run(ask_all())
        usd = journal.spent if judging.endpoint.price(judging.model) else None
    with atomic_open(run / f"{profile.name}.verdicts.jsonl") as file:
        for record in asked:
            verdict = found[record.id]
            row = {"id": record.id, "verdict": verdict.value, "decided": verdict.decided}
            file.write(json_text(row) + "\n")
    return ConventionVerdicts(
        judging.model,
        rule.rubric,
        {name: verdict.value for name, verdict in found.items()},
        frozenset(name for name, verdict in found.items() if not verdict.decided),
        frozenset(name for name, verdict in found.items() if not verdict.answered),
        usd,
    )
