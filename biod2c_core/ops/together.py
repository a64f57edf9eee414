"""Work that needs answers on its way, done one by one or with the answers to many asked for at once.

The work is a generator: it yields what it asks, is sent the answer, and returns its result. Written once,
it gives the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")


def alone(work: Generator[Q, A, R], answer: Callable[[Q], A]) -> R:
    """The result of one piece of work.

    Args:
        work: The generator.
        answer: Answers what it asks.
    """
    try:
        asked = next(work)
        while True:
            asked = work.send(answer(asked))
    except StopIteration as end:
        result: R = end.value
        return result


def together(
    works: Sequence[Generator[Q, A, R]], answer: Callable[[list[Q]], Sequence[A]]
) -> list[R]:
    """The results of many pieces of work, as :func:`alone` would give them.

    Args:
        works: The generators.
        answer: Answers all that they ask at a time, each different question once.
    """
    results: dict[int, R] = {}
    asked: dict[int, Q] = {}

    def go_on(index: int, step: Callable[[], Q]) -> None:
        try:
            asked[index] = step()
        except StopIteration as end:
            asked.pop(index, None)
            results[index] = end.value

    for index, work in enumerate(works):
        go_on(index, work.__next__)
    while asked:
        different = list(dict.fromkeys(asked.values()))
        answers = dict(zip(different, answer(different), strict=True))
        for index, question in list(asked.items()):
            go_on(index, partial(works[index].send, answers[question]))
    return [results[index] for index in range(len(works))]
