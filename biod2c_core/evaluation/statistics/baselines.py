"""What can be had without looking: baselines that know training answers and test questions alone.

A model that does not beat them has not been shown to see anything.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.scripts import spaced

NEIGHBOURS = 15
_WORD = re.compile(r"\w+")


def majority(training: Sequence[Record], records: Sequence[Record]) -> dict[str, Prediction]:
    """Answer every question with the most frequent training answer of its ``answer_type``.

    Capital letters do not matter; of equally frequent answers the alphabetically first is taken.

    Raises:
        InputError: There is no training answer.
    """
    answers = _training_answers(training)
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    for record, answer in answers:
        by_type[record.answer_type][answer] += 1
        by_type["any"][answer] += 1
    best = {kind: _most_frequent(counts) for kind, counts in by_type.items()}
    return {
        record.id: Prediction(record.id, best.get(record.answer_type, best["any"]))
        for record in records
    }


def question_only(training: Sequence[Record], records: Sequence[Record]) -> dict[str, Prediction]:
    """Answer from the question's words alone: a vote of the 15 most similar training questions.

    Similarity is the cosine of word counts weighted by inverse document frequency,
    idf = log((1 + N) / (1 + n)) + 1 for a word in n of N training questions; a neighbour's vote
    weighs its similarity. Without a common word the majority answer is taken.

    Raises:
        InputError: There is no training answer.
    """
    answers = _training_answers(training)
    index = _QuestionIndex([record.question for record, _ in answers])
    fallback = majority(training, records)
    result = {}
    for record in records:
        similarity = index.similarities(record.question)
        nearest = np.argsort(-similarity, kind="stable")[:NEIGHBOURS]
        votes: dict[str, float] = defaultdict(float)
        for place in nearest[similarity[nearest] > 0]:
            votes[answers[place][1]] += float(similarity[place])
        text = _most_frequent(votes) if votes else fallback[record.id].answer
        result[record.id] = Prediction(record.id, text)
    return result


class _QuestionIndex:
    """Inverted index of questions for cosine similarity.

    Args:
        questions: N texts.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        rows: dict[str, list[int]] = defaultdict(list)
        counts: dict[str, list[int]] = defaultdict(list)
        for row, question in enumerate(questions):
            for word, count in Counter(_words(question)).items():
                rows[word].append(row)
                counts[word].append(count)
        self._size = len(questions)
        self._idf = {
            word: np.log((1 + self._size) / (1 + len(found))) + 1 for word, found in rows.items()
        }
        self._rows = {word: np.array(found) for word, found in rows.items()}
        self._weights = {word: np.array(counts[word]) * self._idf[word] for word in rows}
        squares = np.zeros(self._size)
        for word, weights in self._weights.items():
            squares[self._rows[word]] += weights**2
        self._norms = np.sqrt(np.maximum(squares, 1e-12))

    def similarities(self, question: str) -> NDArray[np.float64]:
        """Cosine with each question, (N,). Words that no question has do not count."""
        products, square = np.zeros(self._size), 0.0
        for word, count in Counter(_words(question)).items():
            if word in self._rows:
                weight = count * self._idf[word]
                products[self._rows[word]] += weight * self._weights[word]
                square += weight**2
        return products / self._norms / max(np.sqrt(square), 1e-12)


def _words(text: str) -> list[str]:
    return _WORD.findall(spaced(text).lower())


def _training_answers(training: Sequence[Record]) -> list[tuple[Record, str]]:
    """Records with their answers in the most frequent of the ways they are capitalised.

    Sorted by id, so that baselines do not depend on the order of the records.
    """
    answered = sorted((record for record in training if record.answer), key=lambda r: r.id)
    if not answered:
        raise InputError("no training record has an answer", "Name records with answers.")
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for record in answered:
        forms[record.answer.lower()][record.answer] += 1
    usual = {lowered: _most_frequent(counts) for lowered, counts in forms.items()}
    return [(record, usual[record.answer.lower()]) for record in answered]


def _most_frequent(counts: Mapping[str, float]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))
