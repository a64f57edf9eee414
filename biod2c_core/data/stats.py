"""What is in a data set: counts, lengths, modalities, balance of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open
from biod2c_core.data.records import Record
from biod2c_core.errors import MissingDependencyError

TOP = 10
LONGEST = 4096  # longer texts are counted at this length


@dataclass
class TextLengths:
    """How long texts are, in words, kept as a histogram so that memory stays bounded."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, text: str) -> None:
        """Count one text."""
        self.counts[min(len(text.split()), LONGEST)] += 1

    def quantile(self, share: float) -> int:
        """The smallest length that at least this share of the texts do not exceed; 0 for none."""
        wanted, seen = share * self.counts.total(), 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= wanted:
                return length
        return 0

    def to_json(self) -> dict[str, float]:
        """Median, 95% quantile, longest and mean."""
        total = self.counts.total()
        mean = sum(length * count for length, count in self.counts.items()) / total if total else 0
        return {
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "longest": self.quantile(1.0),
            "mean": round(mean, 2),
        }


@dataclass
class Stats:
    """Counts of a data set, filled record by record."""

    records: int = 0
    with_queue: int = 0
    images: set[str] = field(default_factory=set)
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    answer_types: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    organs: Counter[str] = field(default_factory=Counter)
    closed_answers: Counter[str] = field(default_factory=Counter)
    open_answers: Counter[str] = field(default_factory=Counter)
    question_words: TextLengths = field(default_factory=TextLengths)
    answer_words: TextLengths = field(default_factory=TextLengths)

    def add(self, record: Record) -> None:
        """Count one record."""
        self.records += 1
        self.with_queue += bool(record.queue)
        self.images.add(record.image)
        self.splits[record.split or "(none)"] += 1
        self.sources[record.source or "(none)"] += 1
        self.answer_types[record.answer_type or "(none)"] += 1
        self.modalities[record.tags.get("modality", "(unknown)")] += 1
        self.organs[record.tags.get("organ", "(unknown)")] += 1
        self.question_words.add(record.question)
        self.answer_words.add(record.answer)
        if record.answer:
            closed = record.answer_type == "CLOSED"
            answers = self.closed_answers if closed else self.open_answers
            answers[record.answer.lower()[:80]] += 1

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; long tables are cut to their top rows."""
        plain: dict[str, Any] = {
            "records": self.records,
            "images": len(self.images),
            "questions_per_image": round(self.records / max(1, len(self.images)), 2),
            "with_queue": self.with_queue,
        }
        for name in ("splits", "sources", "answer_types", "modalities", "organs"):
            plain[name] = dict(getattr(self, name).most_common())
        plain["question_words"] = self.question_words.to_json()
        plain["answer_words"] = self.answer_words.to_json()
        plain["closed_answers"] = asdict(answer_balance(self.closed_answers))
        plain["open_answers"] = asdict(answer_balance(self.open_answers))
        return plain


@dataclass(frozen=True)
class AnswerBalance:
    """How evenly answers are spread.

    Attributes:
        answers: Questions that have one.
        distinct: Different answers.
        majority: Share of the most frequent one: what guessing it always would score.
        top: The most frequent ones with their counts.
    """

    answers: int
    distinct: int
    majority: float
    top: dict[str, int]


def answer_balance(answers: Counter[str]) -> AnswerBalance:
    """Summarize a count of answers."""
    total = answers.total()
    top = dict(answers.most_common(TOP))
    return AnswerBalance(
        total, len(answers), round(max(top.values(), default=0) / max(1, total), 4), top
    )


def summarize(records: Iterable[Record]) -> Stats:
    """Count a data set."""
    stats = Stats()
    for record in records:
        stats.add(record)
    return stats


def plot_stats(stats: Stats, path: str | Path) -> None:
    """Draw counts, lengths, modalities and answer balance as one PNG, written atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "plots") from error
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    _bars(axes[0, 0], "Records by split", stats.splits)
    _bars(axes[0, 1], "Modalities", stats.modalities)
    _bars(axes[0, 2], "Organs", stats.organs)
    _bars(axes[1, 0], "Closed answers", stats.closed_answers)
    _bars(axes[1, 1], "Open answers", stats.open_answers)
    for name, lengths in (("questions", stats.question_words), ("answers", stats.answer_words)):
        counts = lengths.counts
        longest = max(1, lengths.quantile(0.99))
        heights = [counts[length] for length in range(longest + 1)]
        axes[1, 2].step(range(longest + 1), heights, where="mid", label=name)
    axes[1, 2].set(title="Words (to the 99% quantile)", xlabel="words", ylabel="records")
    axes[1, 2].legend()
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=100)


def _bars(axis: Any, title: str, counts: Counter[str]) -> None:
    top = counts.most_common(TOP)[::-1]
    # matplotlib would read a dollar sign as the start of a formula
    names = [name[:24].replace("$", r"\$") for name, _ in top]
    axis.barh(range(len(top)), [count for _, count in top], tick_label=names)
    axis.set_title(title)
