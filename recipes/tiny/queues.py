"""Text queues (section 3.2): what else is known of the image, and phrases of other images."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import lru_cache

SIZE = 30  # the paper's k
OWN_SHARE = 12  # at most so many texts about the image itself, the rest are distractors
NEGATIONS = frozenset(("no", "not", "yes", "without", "unenhanced"))


@lru_cache(maxsize=1 << 16)
def normalized(text: str) -> str:
    """Lower-case words, separated by single blanks."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def holds(text: str, answer: str) -> bool:
    """Whether the answer occurs in the text as a whole phrase."""
    phrase = normalized(answer)
    return bool(phrase) and f" {phrase} " in f" {normalized(text)} "


def related(first: str, second: str, threshold: float = 0.6) -> bool:
    """Whether two questions share most of their words: paraphrases give each other away."""
    one, other = set(normalized(first).split()), set(normalized(second).split())
    return len(one & other) >= threshold * max(1, min(len(one), len(other)))


def build_queue(
    answer: str, facts: Iterable[str], others: Iterable[str], rng: random.Random, size: int = SIZE
) -> tuple[str, ...]:
    """Texts for one sample, in random order, none of which holds its answer.

    Args:
        answer: The sample's own answer.
        facts: What is known of the same image, without what the question asks for.
        others: Phrases about other images of the same kind.
        rng: Decides choice and order.
        size: The most texts to return.
    """
    closed = normalized(answer) in ("yes", "no")
    chosen: dict[str, str] = {}

    def take(texts: Iterable[str], most: int) -> None:
        texts = list(dict.fromkeys(texts))
        rng.shuffle(texts)
        for text in texts:
            key = normalized(text)
            if len(chosen) >= most:
                return
            # In a yes/no sample any negated text would tell which answer it is by its absence.
            if holds(text, answer) or (closed and NEGATIONS & set(key.split())):
                continue
            chosen.setdefault(key, text)

    take(facts, min(size, OWN_SHARE))
    take(others, size)
    texts = list(chosen.values())
    rng.shuffle(texts)
    return tuple(texts)
