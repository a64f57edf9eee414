"""Text for the language model: questions with answers, bare and behind facts that answer them."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pictures import rng_for
from statements import sentence, statement

from biod2c_core.atomic import atomic_open

MOST_FACTS = 7
YES_NO = ("yes", "no")
Row = tuple[str, str, str, str]  # image, opening sentence, question, answer
PLACES = {"Lung": "lung", "Abdomen": "abdomen", "Pelvic Cavity": "pelvic cavity", "Neck": "neck"}


def line(question: str, answer: str, context: str = "") -> str:
    """One line in the form of the model's prompt, behind an optional context."""
    text = f"{context} Question: {question} Answer: {answer}"
    return " ".join(text.split())


def canonical_answer(answer: str) -> str:
    """``"Yes"`` -> ``"yes"``, ``"Right lung"`` -> ``"right lung"``; CT, T2 and X-ray stay."""
    words = [
        word.lower() if re.fullmatch(r"[A-Z]?[a-z]+[,.;]?", word) else word
        for word in answer.split()
    ]
    text = " ".join(words).strip()
    text = re.sub(r"\bx[- ]?ray", "X-ray", text, flags=re.IGNORECASE)
    return text.rstrip(".")


def context_of(opening: str, facts: list[str], own: str, rng: random.Random) -> str:
    """A few facts as sentences, the one that answers the question mostly among them."""
    others = [fact for fact in dict.fromkeys(facts) if fact and fact != own]
    chosen = rng.sample(others, min(len(others), rng.randint(1, MOST_FACTS - 1)))
    if own and rng.random() < 0.75:
        chosen.insert(rng.randint(0, len(chosen)), own)
    return " ".join([opening, *map(sentence, chosen)]).strip()


def grouped_lines(rows: list[Row], seed: int, repeats: int = 2) -> Iterator[str]:
    """Lines of questions that belong to images.

    Args:
        rows: The questions with their answers.
        seed: Decides which facts stand in front.
        repeats: Lines with facts in front for each question.
    """
    known = facts_of_images(rows)
    for image, opening, question, answer in rows:
        own = statement(question, answer)
        yield line(question, answer)
        for repeat in range(repeats):
            rng = rng_for(seed, "context", image, question, repeat)
            yield line(question, answer, context_of(opening, known[image], own, rng))


def undecided_lines(rows: list[Row], seed: int) -> Iterator[str]:
    """Lines of questions with drawn answers, two each, mostly behind the fact that gives them.

    No line tells what is true of an image: a language model that knows the answer from the question
    leaves stage 2 nothing to see. Yes and no come once each, other answers from questions that
    begin with the same two words.

    Args:
        rows: The questions with their answers.
        seed: Decides which answers are drawn and which facts stand in front.
    """
    known = facts_of_images(rows)
    answers: dict[str, list[str]] = defaultdict(list)
    for _, _, question, answer in rows:
        if answer not in YES_NO:
            answers[_beginning(question)].append(answer)
    for image, opening, question, answer in rows:
        rng = rng_for(seed, "undecided", image, question)
        truth = statement(question, answer)
        others = [fact for fact in known[image] if fact != truth]
        for drawn in (
            YES_NO if answer in YES_NO else rng.choices(answers[_beginning(question)], k=2)
        ):
            own = statement(question, drawn)
            yield line(question, drawn, context_of(opening, others, own, rng))


def facts_of_images(rows: list[Row]) -> dict[str, list[str]]:
    """What the questions with their answers say about each image."""
    known: dict[str, list[str]] = defaultdict(list)
    for image, _, question, answer in rows:
        known[image].append(statement(question, answer))
    return known


def _beginning(question: str) -> str:
    return " ".join(question.lower().split()[:2])


def slake_rows(path: Path) -> list[Row]:
    """SLAKE's English train questions as (image, opening sentence, question, answer)."""
    rows = []
    for row in json.loads(path.read_text("utf-8")):
        if row["q_lang"] != "en":
            continue
        place = PLACES.get(row["location"], row["location"].split("_")[0].lower())
        modality = row["modality"].replace("X-Ray", "X-ray")
        opening = f"{modality} of the {place}."
        question = " ".join(row["question"].split())
        rows.append((f"slake/{row['img_id']}", opening, question, canonical_answer(row["answer"])))
    return rows


def write_lines(path: Path, lines: set[str], seed: int) -> None:
    """Write the lines in an order that depends on the seed alone."""
    ordered = sorted(lines)
    rng_for(seed, "lines").shuffle(ordered)
    with atomic_open(path) as file:
        file.write("\n".join(ordered) + "\n")
