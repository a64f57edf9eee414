"""The text queue of section 3.2: k texts related to each image, from its caption or by retrieval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from biod2c_core.curation.phrases import normalize, related_texts, unique
from biod2c_core.curation.retrieval import Knowledge
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError

PAPER_K = 30
_IMAGE_TAGS = ("modality", "organ", "location", "finding")
_TOLD_NOTHING = frozenset({"yes", "no", "none", "not", "unknown", "normal", "both"})
_TEXTS_PER_ENTRY = 4  # at first; an entry gives the rest of its texts only when all have given


@dataclass
class QueueReport:
    """How the queues came out.

    Attributes:
        records: Queues built.
        full: Queues with all k texts.
        texts: Texts in all queues.
        from_caption: Of these, from the caption of the image.
        from_image: From what other records say about the image.
        from_knowledge: From the knowledge base.
    """

    records: int = 0
    full: int = 0
    texts: int = 0
    from_caption: int = 0
    from_image: int = 0
    from_knowledge: int = 0


@dataclass
class _Known:
    """What the records of one split together say about one image; the other splits stay unseen."""

    captions: dict[str, None] = field(default_factory=dict)
    facts: dict[str, None] = field(default_factory=dict)


class QueueBuilder:
    """Builds queues from captions, from what else is said of the image, and from a knowledge base.

    No text contains the record's own answer, letter case apart. A short answer also hides inside
    other words ("no" in "node"): texts that contain it that way are taken only where nothing else is
    left to fill the queue.

    Args:
        records: The whole set; an image's other records tell what is in it.
        knowledge: Tops queues up; None for none.
        k: Texts in a queue.

    Raises:
        InputError: ``k`` is not positive.
    """

    def __init__(
        self, records: Iterable[Record], knowledge: Knowledge | None = None, k: int = PAPER_K
    ) -> None:
        if k < 1:
            raise InputError(f"a queue of {k} texts was asked for", "Give 1 or more.")
        self._knowledge = knowledge
        self._k = k
        self._known: defaultdict[tuple[str, str], _Known] = defaultdict(_Known)
        for record in records:
            self._learn(record)
        self._phrases = lru_cache(maxsize=4096)(related_texts)
        self._search = lru_cache(maxsize=256)(self._retrieve)
        self.report = QueueReport()

    def build(self, record: Record) -> Record:
        """The record with its queue, which replaces any it had."""
        known = self._known[record.image, record.split]
        answer = record.answer.casefold().strip()
        own = unique(text for caption in known.captions for text in self._phrases(caption))
        facts = [fact for fact in known.facts if fact.casefold() != answer]
        told = unique([*own, *facts])
        queue = pick_texts(lambda: iter(told), record.answer, self._k)
        from_own = len(set(queue) & set(own))
        from_image = len(queue) - from_own
        if len(queue) < self._k and self._knowledge is not None:
            captions = [_without(caption, answer) for caption in known.captions]
            query = " ".join([*captions, *facts]) or _without(record.question, answer)
            queue = pick_texts(lambda: self._candidates(told, query), record.answer, self._k)
        self._count(len(queue), from_own, from_image)
        return replace(record, queue=tuple(queue))

    def _learn(self, record: Record) -> None:
        known = self._known[record.image, record.split]
        if record.caption:
            known.captions[record.caption] = None
        facts = [record.tags[name] for name in _IMAGE_TAGS if record.tags.get(name)]
        # An answer that is the caption, as in captioning sets, would be its own queue.
        if record.answer != record.caption:
            facts.append(record.answer)
        for fact in facts:
            tells = fact.casefold().strip(" .") not in _TOLD_NOTHING
            if tells and any(character.isalpha() for character in fact):
                known.facts[" ".join(fact.split()).strip(" .")] = None

    def _candidates(self, told: list[str], query: str) -> Iterator[str]:
        """What is known, then the texts of more and more entries of the knowledge base."""
        assert self._knowledge is not None
        yield from told
        given = {normalize(text) for text in told}
        seen: list[int] = []
        for index in self._ranked(query):
            seen.append(index)
            yield from self._new(index, slice(_TEXTS_PER_ENTRY), given)
        for index in seen:
            yield from self._new(index, slice(_TEXTS_PER_ENTRY, None), given)

    def _ranked(self, query: str) -> Iterator[int]:
        """Entries of the knowledge base, best first; searched in ever larger portions."""
        assert self._knowledge is not None
        count, done = self._k, 0
        while done < len(self._knowledge.entries):
            ranked = self._search(query, count)
            yield from ranked[done:]
            if len(ranked) < count:
                return
            done, count = count, count * 8

    def _new(self, index: int, portion: slice, given: set[str]) -> Iterator[str]:
        assert self._knowledge is not None
        for text in self._knowledge.entries[index].texts[portion]:
            if (name := normalize(text)) and name not in given:
                given.add(name)
                yield text

    def _retrieve(self, query: str, count: int) -> list[int]:
        assert self._knowledge is not None
        return self._knowledge.retriever.search(query, count)

    def _count(self, length: int, from_caption: int, from_image: int) -> None:
        report = self.report
        report.records += 1
        report.full += length == self._k
        report.texts += length
        report.from_caption += from_caption
        report.from_image += from_image
        report.from_knowledge += length - from_caption - from_image


def pick_texts(candidates: Callable[[], Iterator[str]], answer: str, k: int) -> list[str]:
    """The first ``k`` texts that do not contain the answer.

    Args:
        candidates: Starts over the texts, best first, each one different.
        answer: The sample's own answer; empty for none.
        k: How many.

    Returns:
        Texts in the order given. Those that hold the answer inside another word come last, and only
        where the others are fewer than ``k``.
    """
    hidden = answer.casefold().strip()
    whole = f" {_words(hidden)} "
    clear: list[str] = []
    doubtful: list[str] = []
    for text in candidates():
        if not hidden or hidden not in text.casefold():
            clear.append(text)
            if len(clear) == k:
                return clear
        elif whole.strip() and whole not in f" {_words(text)} ":
            doubtful.append(text)
    return clear + doubtful[: k - len(clear)]


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def _without(text: str, answer: str) -> str:
    """``text`` with the answer cut out, so that the search is not led by it."""
    folded = text.casefold()
    if not answer or answer not in folded or len(folded) != len(text):
        return text
    kept, start = [], 0
    while (found := folded.find(answer, start)) >= 0:
        kept.append(text[start:found])
        start = found + len(answer)
    return " ".join([*kept, text[start:]])
