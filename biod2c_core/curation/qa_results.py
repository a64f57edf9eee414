"""From the journal to the output files: pairs kept, pairs rejected, and a summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from biod2c_core.append_log import whole_characters
from biod2c_core.atomic import atomic_open, write_json
from biod2c_core.curation.gen_qa import GenerationSettings
from biod2c_core.curation.prompts import MOST_PAIRS
from biod2c_core.curation.qa_gates import REASONS, question_name, rejection_reason
from biod2c_core.curation.qa_parsing import Pair, parse_pairs
from biod2c_core.data.records import Record
from biod2c_core.llm_api import Journal
from biod2c_core.llm_api.answers import journal_entry

RECORD_REASONS = {
    "no caption": "the record has no caption",
    "refused": "the model refused",
    "unreadable": "no question-answer pair could be read from the answer",
    "no pair": "no pair passed the quality gates",
    "failed": "no answer; it is asked again in the next run",
}


@dataclass(frozen=True)
class Outputs:
    """Where a run writes, all beside the JSONL that the user names.

    Attributes:
        pairs: Records with question and answer.
        rejected: Pairs and records that are not in it, with the reason.
        journal: Every answer, as it came; what makes a run resumable.
        summary: Counts, tokens, cost.
        batch: State of the Batch API.
    """

    pairs: Path
    rejected: Path
    journal: Path
    summary: Path
    batch: Path

    @staticmethod
    def beside(output: Path) -> Outputs:
        """``OUT.jsonl`` gives ``OUT.rejected.jsonl``, ``OUT.journal.jsonl`` and so on."""
        names = ("rejected.jsonl", "journal.jsonl", "summary.json", "batch.json")
        return Outputs(output, *(output.with_name(f"{output.stem}.{name}") for name in names))


@dataclass
class Summary:
    """How a run stands.

    Attributes:
        records: Records asked about.
        done: With at least one pair kept.
        rejected: With an outcome, and no pair kept.
        failed: Asked in vain so far; the next run asks again.
        pending: Not asked yet.
        pairs: Pairs kept.
        rejected_pairs: Pairs not kept.
        reasons: How often each reason occurred, for pairs and records.
        prompt_tokens: Spent, all answers of the journal together.
        completion_tokens: Likewise.
        usd: Spent; None where the price is unknown.
    """

    records: int = 0
    done: int = 0
    rejected: int = 0
    failed: int = 0
    pending: int = 0
    pairs: int = 0
    rejected_pairs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"reasons": dict(self.reasons.most_common())}


def write_results(
    records: Iterable[Record],
    settings: GenerationSettings,
    journal: Journal,
    failures: dict[str, str],
    outputs: Outputs,
    priced: bool,
) -> Summary:
    """Rewrite the output files from the journal, each atomically and in the records' order.

    Args:
        records: What was, or is to be, asked about.
        settings: How it was asked.
        journal: The answers.
        failures: Why a record has no outcome, by its id.
        outputs: Where to write.
        priced: Whether the model's price is known.

    Returns:
        The summary, which is also written.
    """
    summary = Summary(usd=journal.spent if priced else None)
    asked: dict[str, set[str]] = {}
    with ExitStack() as stack:
        kept, rejected = (
            stack.enter_context(atomic_open(path)) for path in (outputs.pairs, outputs.rejected)
        )
        writer = _Writer(settings, kept, rejected, summary)
        for record in records:
            answer = _answer_of(record, settings, journal, summary)
            writer.write(record, answer, failures, asked.setdefault(record.image, set()))
    write_json(outputs.summary, summary.to_dict() | {"model": settings.model})
    return summary


def _answer_of(
    record: Record, settings: GenerationSettings, journal: Journal, summary: Summary
) -> dict[str, Any] | None:
    """The journal's entry that decides: the first with pairs or a refusal, else the last of all."""
    entry = None
    for ask in range(settings.asks):
        entry = journal_entry(journal, settings.key(record, ask))
        if entry is None:
            return None
        summary.prompt_tokens += entry["usage"]["prompt_tokens"]
        summary.completion_tokens += entry["usage"]["completion_tokens"]
        if "refusal" in entry or parse_pairs(entry["text"]):
            return entry
    return entry


@dataclass
class _Writer:
    settings: GenerationSettings
    kept: IO[str]
    rejected: IO[str]
    summary: Summary

    def write(
        self,
        record: Record,
        entry: dict[str, Any] | None,
        failures: dict[str, str],
        asked: set[str],
    ) -> None:
        """Write what one record gave."""
        summary = self.summary
        summary.records += 1
        if not record.caption:
            self._reject_record(record, "no caption", RECORD_REASONS["no caption"])
        elif entry is None and record.id in failures:
            summary.failed += 1
            self._reject(record, "failed", failures[record.id])
        elif entry is None:
            summary.pending += 1
        elif "refusal" in entry:
            self._reject_record(record, "refused", entry["refusal"])
        elif not (pairs := parse_pairs(entry["text"])):
            self._reject_record(record, "unreadable", entry["text"][:200])
        elif self._write_pairs(record, pairs, asked):
            summary.done += 1
        else:
            self._reject_record(record, "no pair", RECORD_REASONS["no pair"])

    def _write_pairs(self, record: Record, pairs: list[Pair], asked: set[str]) -> int:
        good = 0
        for pair in pairs:
            reason = rejection_reason(pair, record.caption, self.settings.limits)
            if not reason and good == MOST_PAIRS:
                reason = "surplus"
            if not reason and question_name(pair.question) in asked:
                reason = "duplicate"
            if reason:
                self.summary.rejected_pairs += 1
                self._reject(record, reason, REASONS[reason], pair)
                continue
            good += 1
            asked.add(question_name(pair.question))
            self.kept.write(self._record(record, pair, good).to_json() + "\n")
        self.summary.pairs += good
        return good

    def _record(self, record: Record, pair: Pair, number: int) -> Record:
        return Record(
            id=f"{record.id}-q{number}",
            image=record.image,
            question=pair.question,
            answer=pair.answer,
            answer_type="OPEN",
            caption=record.caption,
            queue=record.queue,
            source=record.source or "gen-qa",
            split=record.split,
            tags=record.tags | {"generator": self.settings.model},
        )

    def _reject_record(self, record: Record, reason: str, detail: str) -> None:
        self.summary.rejected += 1
        self._reject(record, reason, detail)

    def _reject(self, record: Record, reason: str, detail: str, pair: Pair | None = None) -> None:
        self.summary.reasons[reason] += 1
        row = {"id": record.id, "image": record.image, "reason": reason}
        row["detail"] = whole_characters(detail)
        if pair is not None:
            row |= {"question": pair.question, "answer": pair.answer}
        self.rejected.write(json.dumps(row, ensure_ascii=False) + "\n")
