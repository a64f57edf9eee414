"""Check a data set before training on it: its images, its texts, and what its splits share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from biod2c_core.data.burnt_text import TextReport
from biod2c_core.data.duplicates import Fingerprint, find_duplicates, fingerprint
from biod2c_core.data.formats import Rejection
from biod2c_core.data.images import load_image
from biod2c_core.data.records import Record
from biod2c_core.errors import ImageError
from biod2c_core.workers import worker_pool

KINDS = {
    "malformed row": "a row that is not a record",
    "missing image": "the file is not there",
    "unusable image": "the file is damaged, over a limit, or outside the image root",
    "same image in two splits": "by path or by looks, so the splits are not independent",
    "duplicate images": "several files of one split look the same",
    "text in pixels": "names, dates, marks of archives; a model may read its answer off them",
    "empty answer": "nothing to learn or to score",
    "long question": "the model reads only the first 32 tokens",
    "long answer": "longer than a training sequence",
    "contradiction": "the same question about the same image, with another answer",
}
MOST_FINDINGS = 10_000  # of one kind; more are only counted
MOST_DETAIL = 4_000  # characters


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
    """Everything that was found; no finding means that the data set is sound.

    Attributes:
        records: Good rows.
        images: Different images.
        findings: The first ``MOST_FINDINGS`` of each kind.
        left_out: By kind, how many more there are.
        text: What stands in the pixels, each image with the ids of its records; None where nobody
            looked.
    """

    records: int = 0
    images: int = 0
    findings: list[Finding] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    text: list[dict[str, Any]] | None = None
    _found: Counter[str] = field(default_factory=Counter, repr=False)

    def add(self, kind: str, where: list[str], detail: str) -> None:
        """Keep one more finding, or count it where there are enough of its kind."""
        self._found[kind] += 1
        if self._found[kind] > MOST_FINDINGS:
            self.left_out[kind] += 1
            return
        if len(detail) > MOST_DETAIL:
            detail = detail[:MOST_DETAIL] + " ..."
        self.findings.append(Finding(kind, where, detail))

    def counts(self) -> dict[str, int]:
        """Findings by kind, in the order of ``KINDS``; kinds without any are left out."""
        return {kind: self._found[kind] for kind in KINDS if self._found[kind]}

    def to_json(self) -> dict[str, Any]:
        """The whole report for a file; ``left_out`` is there where a kind has too many findings."""
        return {
            "records": self.records,
            "images": self.images,
            "counts": self.counts(),
            **({"left_out": dict(self.left_out)} if self.left_out else {}),
            "findings": [asdict(finding) for finding in self.findings],
            **({} if self.text is None else {"text": self.text}),
        }


def validate(
    items: Iterable[Record | Rejection],
    root: Path,
    *,
    limits: Limits | None = None,
    workers: int = 1,
    advance: Callable[[], object] = lambda: None,
    find_text: Callable[[list[str]], TextReport] | None = None,
) -> ValidationReport:
    """Check records and decode every image they name, once.

    Args:
        items: What :func:`stream_records` gives.
        root: The image root.
        limits: When a text is over-long.
        workers: Processes that decode images.
        advance: Called once an image.
        find_text: Given the images that can be decoded, what text they show; by default nobody looks.

    Raises:
        MissingDependencyError: An image needs an extra that is not installed.
    """
    report = ValidationReport()
    splits: dict[str, frozenset[str]] = {}
    ids: dict[str, list[str]] = defaultdict(list)
    for record in _records(items, report, limits or Limits()):
        splits[record.image] = _joined(splits.get(record.image, frozenset()), record.split)
        if find_text is not None:
            ids[record.image].append(record.id)
    report.images = len(splits)
    names = sorted(splits)
    for name in names:
        if len(splits[name]) > 1:
            report.add("same image in two splits", [name], f"in {_spoken(splits[name])}")
    prints: dict[str, Fingerprint] = {}
    for name, result in zip(names, _looks(names, root, workers), strict=True):
        advance()
        if isinstance(result, Finding):
            report.add(**vars(result))
        else:
            prints[name] = result
    _add_duplicates(report, prints, splits)
    if find_text is not None:
        _add_burnt_text(report, find_text(list(prints)), ids)
    return report


def _add_burnt_text(report: ValidationReport, found: TextReport, ids: dict[str, list[str]]) -> None:
    report.text = [{**row, "records": ids[row["image"]]} for row in found.to_json()]
    for name in sorted(found.texts):
        lines = "; ".join(each.text for each in found.texts[name])
        report.add("text in pixels", [name], lines)


@lru_cache
def _joined(splits: frozenset[str], split: str) -> frozenset[str]:
    """One set object for all images in the same splits, of which there are few."""
    return splits | {split}


def _spoken(splits: frozenset[str]) -> str:
    return ", ".join(sorted(split or "no split" for split in splits))


def _records(
    items: Iterable[Record | Rejection], report: ValidationReport, limits: Limits
) -> Iterator[Record]:
    answers: dict[int, int] = {}
    for item in items:
        if isinstance(item, Rejection):
            report.add("malformed row", [f"{item.file}:{item.line}"], item.reason)
            continue
        report.records += 1
        _add_texts(report, item, limits)
        question = hash((item.image, item.question.lower(), item.split))
        answer = hash(item.answer.lower())
        if answers.setdefault(question, answer) != answer:
            report.add("contradiction", [item.id], f"{item.question} {item.answer}")
        yield item


def _add_texts(report: ValidationReport, record: Record, limits: Limits) -> None:
    if not record.answer:
        report.add("empty answer", [record.id], record.question)
    for kind, text, limit in (
        ("long question", record.question, limits.question_words),
        ("long answer", record.answer, limits.answer_words),
    ):
        if (words := len(text.split())) > limit:
            report.add(kind, [record.id], f"{words} words, over {limit}")


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
    remedy = "Run the same command again with fewer --workers."
    with worker_pool(workers, "reads images", remedy) as pool:
        yield lambda function, tasks: pool.map(function, tasks, chunksize=16)


def _add_duplicates(
    report: ValidationReport, prints: dict[str, Fingerprint], splits: dict[str, frozenset[str]]
) -> None:
    names = list(prints)
    for group in find_duplicates(list(prints.values())):
        members = [names[index] for index in group]
        shared = frozenset.union(*(splits[name] for name in members))
        kind = "same image in two splits" if len(shared) > 1 else "duplicate images"
        report.add(kind, members, f"look the same; in {_spoken(shared)}")
