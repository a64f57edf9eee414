"""Check a data set before training on it: its images, its texts, and what its splits share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from biod2c_core.data.duplicates import Fingerprint, find_duplicates, fingerprint
from biod2c_core.data.formats import Rejection
from biod2c_core.data.images import load_image
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError

KINDS = {
    "malformed row": "a row that is no record",
    "missing image": "the file is not there",
    "unusable image": "the file is damaged, over a limit, or outside the image root",
    "same image in two splits": "by path or by looks, so the splits are not independent",
    "duplicate images": "several files of one split look the same",
    "empty answer": "nothing to learn or to score",
    "long question": "the model reads only the first 32 tokens",
    "long answer": "longer than a training sequence",
    "contradiction": "the same question about the same image, with another answer",
}


@dataclass(frozen=True)
class Limits:
    """From how many words on a text is over-long (a word is one token or more)."""

    question_words: int = 32
    answer_words: int = 512


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: A key of ``KINDS``.
        where: Record ids, image paths or ``file:line``.
        detail: What exactly.
    """

    kind: str
    where: list[str]
    detail: str


@dataclass
class ValidationReport:
    """Everything that was found; no finding means that the data set is sound."""

    records: int = 0
    images: int = 0
    findings: list[Finding] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Findings by kind, in the order of ``KINDS``; kinds without any are left out."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_json(self) -> dict[str, Any]:
        """The whole report for a file."""
        return {
            "records": self.records,
            "images": self.images,
            "counts": self.counts(),
            "findings": [asdict(finding) for finding in self.findings],
        }


def validate(
    items: Iterable[Record | Rejection],
    root: Path,
    *,
    limits: Limits | None = None,
    workers: int = 1,
    advance: Callable[[], object] = lambda: None,
) -> ValidationReport:
    """Check records and decode every image they name, once.

    Args:
        items: What :func:`stream_records` gives.
        root: The image root.
        limits: When a text is over-long.
        workers: Processes that decode images.
        advance: Called once an image.

    Raises:
        MissingDependencyError: An image needs an extra that is not installed.
    """
    report = ValidationReport()
    splits: dict[str, set[str]] = defaultdict(set)
    for record in _records(items, report, limits or Limits()):
        splits[record.image].add(record.split)
    report.images = len(splits)
    names = sorted(splits)
    for name in names:
        if len(splits[name]) > 1:
            where = ", ".join(sorted(split or "no split" for split in splits[name]))
            report.findings.append(Finding("same image in two splits", [name], f"in {where}"))
    prints: dict[str, Fingerprint] = {}
    for name, result in zip(names, _looks(names, root, workers), strict=True):
        advance()
        if isinstance(result, Finding):
            report.findings.append(result)
        else:
            prints[name] = result
    report.findings += _alike(prints, splits)
    return report


def _records(
    items: Iterable[Record | Rejection], report: ValidationReport, limits: Limits
) -> Iterator[Record]:
    answers: dict[int, int] = {}
    for item in items:
        if isinstance(item, Rejection):
            place = f"{item.file}:{item.line}"
            report.findings.append(Finding("malformed row", [place], item.reason))
            continue
        report.records += 1
        report.findings += _text_findings(item, limits)
        question = hash((item.image, item.question.lower(), item.split))
        answer = hash(item.answer.lower())
        if answers.setdefault(question, answer) != answer:
            detail = f"{item.question} {item.answer}"
            report.findings.append(Finding("contradiction", [item.id], detail))
        yield item


def _text_findings(record: Record, limits: Limits) -> Iterator[Finding]:
    if not record.answer:
        yield Finding("empty answer", [record.id], record.question)
    for kind, text, limit in (
        ("long question", record.question, limits.question_words),
        ("long answer", record.answer, limits.answer_words),
    ):
        if (words := len(text.split())) > limit:
            yield Finding(kind, [record.id], f"{words} words, over {limit}")


def _look(task: tuple[str, Path]) -> Fingerprint | Finding:
    """Decode one image; runs in a worker."""
    name, root = task
    try:
        return fingerprint(load_image(name, root=root))
    except ImageError as error:
        missing = "not found" in error.problem
        return Finding("missing image" if missing else "unusable image", [name], error.problem)


def _looks(names: Sequence[str], root: Path, workers: int) -> Iterator[Fingerprint | Finding]:
    tasks = ((name, root) for name in names)
    with _mapper(workers) as mapper:
        yield from mapper(_look, tasks)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """``map``, or the same in several processes."""
    if workers <= 1:
        yield map
        return
    # Spawned, not forked: a fork of a process with threads (torch) can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield lambda function, tasks: pool.map(function, tasks, chunksize=16)


def _alike(prints: dict[str, Fingerprint], splits: dict[str, set[str]]) -> Iterator[Finding]:
    names = list(prints)
    for group in find_duplicates([prints[name] for name in names]):
        members = [names[index] for index in group]
        shared = set.union(*(splits[name] for name in members))
        kind = "same image in two splits" if len(shared) > 1 else "duplicate images"
        where = ", ".join(sorted(split or "no split" for split in shared))
        yield Finding(kind, members, f"look the same; in {where}")
