"""Retrieval over a knowledge base: BM25 by default, a sentence encoder as an option."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from biod2c_core.curation.phrases import LONGEST_CLAUSE, clauses, noun_phrases, unique
from biod2c_core.data.records import iter_jsonl
from biod2c_core.errors import InputError, MissingDependencyError
from biod2c_core.foreign import parse_json, read_text

# Fields of a knowledge base entry that hold text, in the order in which they enter a queue.
FIELDS = (
    "text",
    "name",
    "term",
    "title",
    "synonyms",
    "caption",
    "description",
    "definition",
    "summary",
)
_MOST_BYTES = 256 << 20  # of a knowledge base that is read whole; JSONL may be longer
_QUERY_WORDS = 12
_OCCURRENCES = 20_000  # read for one query; bounds its time in a large knowledge base
_TOKEN = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    _TOKEN.findall(
        """
    a an and are as at be been but by for from had has have in into is it its no not of on or show
    showing shown shows such that the their then there these they this to was were which with what
    where who how does do image picture figure fig
        """
    )
)


@dataclass(frozen=True)
class Entry:
    """One entry of a knowledge base.

    Attributes:
        texts: What it can contribute to a queue, best first.
    """

    texts: tuple[str, ...]

    @property
    def indexed(self) -> str:
        """All of its text, for the search."""
        return " ".join(self.texts)


class Retriever(Protocol):
    """Ranks the entries of a knowledge base for a query."""

    def search(self, query: str, count: int) -> list[int]:
        """Indices of the best entries, best first, ties by index; only those that match at all."""


def tokens(text: str) -> list[str]:
    """Words for BM25: lower case, no stop words, a plural "s" dropped."""
    words = (word for word in _TOKEN.findall(text.casefold()) if word not in _STOP_WORDS)
    return [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in words]


class Bm25Retriever:
    """BM25 (Lucene's variant, k1=1.5, b=0.75) through ``bm25s``.

    Args:
        entries: The knowledge base.
    """

    def __init__(self, entries: list[Entry]) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise MissingDependencyError("bm25s", "queue") from error
        self._index = bm25s.BM25()
        corpus = [tokens(entry.indexed) for entry in entries]
        self._index.index(corpus, show_progress=False)
        self._frequency = Counter(word for words in corpus for word in set(words))

    def search(self, query: str, count: int) -> list[int]:
        """See ``Retriever.search``; a long query is cut to its rarest words, which decide anyway."""
        words = {word for word in tokens(query) if word in self._frequency}
        if not words:
            return []
        scores = self._index.get_scores(self._rarest(words))
        matching = np.flatnonzero(scores)
        return [int(matching[rank]) for rank in best_indices(scores[matching], count)]

    def _rarest(self, words: set[str]) -> list[str]:
        """At least two words, and more while they occur in few enough entries together."""
        ranked = sorted(words, key=lambda word: (self._frequency[word], word))[:_QUERY_WORDS]
        occurrences = np.cumsum([self._frequency[word] for word in ranked])
        return ranked[: max(2, int(np.searchsorted(occurrences, _OCCURRENCES, side="right")))]


class DenseRetriever:
    """Cosine similarity of mean-pooled sentence embeddings, by a transformers encoder.

    Args:
        entries: The knowledge base.
        encoder: Local folder of the encoder; nothing is downloaded.
        device: Where it runs.
        batch_size: Texts at once.

    Raises:
        InputError: The folder holds no encoder.
    """

    def __init__(
        self, entries: list[Entry], encoder: str | Path, device: str = "cpu", batch_size: int = 64
    ) -> None:
        from biod2c_core.model.checkpoints.pretrained import (
            loading,
            pretrained_encoder,
            pretrained_tokenizer,
        )

        if not Path(encoder).is_dir():
            raise InputError(f"no folder {encoder}", "Give a local folder of a sentence encoder.")
        with loading(
            f"{encoder} holds no sentence encoder that transformers can load",
            "It needs config.json, the weights and the tokenizer's files.",
        ):
            self._tokenizer = pretrained_tokenizer(encoder, local_files_only=True)
            model = pretrained_encoder(encoder)
        self._device, self._batch_size = device, batch_size
        self._model = model.to(device).eval()
        self._embedded = self.embed([entry.indexed for entry in entries])

    def embed(self, texts: list[str]) -> np.ndarray:
        """Embed texts.

        Returns:
            ``(len(texts), d)`` float32 of unit length.
        """
        import torch

        rows = []
        for start in range(0, len(texts), self._batch_size):
            batch = texts[start : start + self._batch_size]
            inputs = self._tokenizer(
                batch, padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(self._device)
            with torch.inference_mode():
                states = self._model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)

    def search(self, query: str, count: int) -> list[int]:
        """See ``Retriever.search``."""
        if not query.strip():
            return []
        scores = self._embedded @ self.embed([query])[0]
        return best_indices(scores, count)


def best_indices(scores: np.ndarray, count: int) -> list[int]:
    """Indices of the ``count`` highest scores, ties in favour of the lower index."""
    candidates = np.arange(len(scores))
    if count < len(scores):
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= threshold)
    order = np.lexsort((candidates, -scores[candidates]))
    return [int(index) for index in candidates[order[:count]]]


@dataclass(frozen=True)
class Knowledge:
    """A knowledge base with a way to search it.

    Attributes:
        entries: What can be found.
        encoder: Folder of a sentence encoder; None for BM25.
        device: Where the encoder runs.
    """

    entries: list[Entry]
    encoder: Path | None = None
    device: str = "cpu"

    @cached_property
    def retriever(self) -> Retriever:
        """Built at first use."""
        if self.encoder is not None:
            return DenseRetriever(self.entries, self.encoder, self.device)
        return Bm25Retriever(self.entries)


def captions_as_entries(captions: Iterable[str]) -> list[Entry]:
    """The captions of the set as a knowledge base: each contributes its phrases."""
    entries = (Entry(tuple(unique(_pieces(caption)))) for caption in dict.fromkeys(captions))
    return [entry for entry in entries if entry.texts]


def load_entries(path: str | Path) -> list[Entry]:
    """Read a knowledge base.

    Args:
        path: ``.jsonl`` (objects or strings), ``.json`` (a list of them, an object of them, or terms
            with their synonyms) or plain text with one entry per line.

    Raises:
        InputError: It cannot be read, or holds no text.
    """
    entries = [entry for row in _rows(Path(path)) if (entry := _entry(row)).texts]
    if not entries:
        raise InputError(
            f"{path} holds no entry with text",
            f"Give text lines, strings, or objects with one of: {', '.join(FIELDS)}.",
        )
    return entries


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".jsonl":
        return [row for _, row in iter_jsonl(path)]
    try:
        text = read_text(path, _MOST_BYTES)
        if path.suffix != ".json":
            return text.splitlines()
        rows = parse_json(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not UTF-8 text or not JSON, or longer than {_MOST_BYTES >> 20} MiB",
            "Check the file.",
        ) from error
    if isinstance(rows, dict):
        return [_named(name, row) for name, row in rows.items()]
    return rows if isinstance(rows, list) else []


def _named(name: str, row: Any) -> Any:
    """A term with a list of texts is an entry of synonyms; objects name themselves."""
    return {"name": name, "synonyms": row} if isinstance(row, (str, list)) else row


def _entry(row: Any) -> Entry:
    """Short texts enter whole, long ones as their clauses and phrases."""
    found: list[str] = []
    for text in _strings(row):
        flat = " ".join(text.split()).strip(" .")
        if len(flat) < 2:
            continue
        found += [flat] if len(flat.split()) <= LONGEST_CLAUSE else _pieces(flat)
    return Entry(tuple(unique(found)))


def _pieces(text: str) -> list[str]:
    return [*clauses(text), *noun_phrases(text)]


def _strings(row: Any) -> list[str]:
    if isinstance(row, str):
        return [row]
    if not isinstance(row, dict):
        return []
    values: list[Any] = []
    for name in FIELDS:
        value = row.get(name, [])
        values += value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, str)]
