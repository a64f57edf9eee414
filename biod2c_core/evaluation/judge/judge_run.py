"""A judge's pass over one result: its files, its repetition, and what it comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import BioD2CError, InputError, PartialResultError, counted
from biod2c_core.evaluation.judge.agreement import Agreement, agree
from biod2c_core.evaluation.judge.bill import Bill
from biod2c_core.evaluation.judge.gpt_score import (
    ASKS,
    LIKELY_REPLY,
    JudgeSummary,
    Verdict,
    judge_all,
    judge_messages,
    summarize,
    verdict_key,
)
from biod2c_core.evaluation.predict.models import Endpoint
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.llm_api import Journal

JOURNAL_NAME = "judge.journal.jsonl"


@dataclass(frozen=True)
class Judging:
    """How to judge.

    Attributes:
        model: The judge, as its endpoint knows it.
        endpoint: How to reach it.
        passes: How often every answer is rated; from the second pass on it is for agreement only.
        tell: Given lines for the person: what it will cost, and has.
    """

    model: str
    endpoint: Endpoint
    passes: int = 1
    tell: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Judged:
    """What the judge found.

    Attributes:
        summary: Of the first pass.
        agreement: Of the first pass with the second; None without one, or with too few scores.
        usd: Spent on the journal so far; None where the judge's price is unknown.
        stopped: The error that ended a pass early.
    """

    summary: JudgeSummary
    agreement: Agreement | None
    usd: float | None
    stopped: BioD2CError | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        agreement = self.agreement.to_dict() if self.agreement else None
        return {**self.summary.to_dict(), "agreement_of_passes": agreement, "usd": self.usd}

    def raise_if_incomplete(self) -> None:
        """Raise what the exit code must tell, once everything is written.

        Raises:
            BudgetError: The budget was used up.
            EndpointError: The endpoint failed for good.
            PartialResultError: Some answers are unscored.
        """
        if self.stopped is not None:
            raise self.stopped
        if self.summary.unscored:
            reasons = ", ".join(f"{kind} {n}" for kind, n in self.summary.reasons.items())
            raise PartialResultError(
                f"the judge left {counted(self.summary.unscored, 'answer')} unscored ({reasons})",
                "Run the same command again to ask again about failed requests.",
            )


def verdicts_path(run: Path, number: int) -> Path:
    """Where the verdicts of one pass stand, from 1."""
    return run / ("judge.jsonl" if number == 1 else f"judge.{number}.jsonl")


def judge_result(
    questions: Sequence[ScoredQuestion],
    judging: Judging,
    run: Path,
    progress: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> Judged:
    """Have every answer rated, and write ``judge.jsonl`` (and ``judge.2.jsonl`` ...) into the run.

    Every reply is kept in ``judge.journal.jsonl`` before it counts; run again, only what is missing
    is asked.

    Args:
        questions: The answers.
        judging: How.
        run: The run folder.
        progress: Given the number of answers, a context whose value is called with each number done.

    Raises:
        InputError: The endpoint cannot be used as given.
    """
    if judging.passes < 1:
        raise InputError(f"{judging.passes} judge passes", "Ask for at least one.")
    passes: list[list[Verdict]] = []
    stopped: BioD2CError | None = None
    with Journal(run / JOURNAL_NAME) as journal:
        for number in range(1, judging.passes + 1):
            with progress(len(questions)) as advance:
                verdicts, stopped = asyncio.run(
                    _one_pass(questions, judging, journal, number, advance)
                )
            passes.append(verdicts)
            with atomic_open(verdicts_path(run, number)) as file:
                file.writelines(verdict.to_json() + "\n" for verdict in verdicts)
            if stopped is not None:
                break
        usd = journal.spent if judging.endpoint.price(judging.model) else None
    return Judged(summarize(questions, passes[0], judging.model), _agreement(passes), usd, stopped)


async def _one_pass(
    questions: Sequence[ScoredQuestion],
    judging: Judging,
    journal: Journal,
    number: int,
    advance: Callable[[int], None],
) -> tuple[list[Verdict], BioD2CError | None]:
    async with judging.endpoint.client(judging.model, journal) as client:
        bill = Bill(judging.tell, client, LIKELY_REPLY, ASKS)
        bill.before({verdict_key(client, q, number, 0): judge_messages(q) for q in questions})

        def one_more(count: int) -> None:
            advance(count)
            bill.one_more()

        try:
            return await judge_all(
                questions,
                client,
                number=number,
                workers=judging.endpoint.in_flight,
                advance=one_more,
            )
        finally:
            bill.after()


def _agreement(passes: Sequence[Sequence[Verdict]]) -> Agreement | None:
    if len(passes) < 2:
        return None
    scores = [{v.id: v.scores.get("score") for v in verdicts} for verdicts in passes[:2]]
    try:
        return agree(scores[0], scores[1])
    except InputError:  # fewer than two answers have both scores
        return None
