"""Text for the language model: questions with answers, bare and behind facts that answer them."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sources import rng_for
from statements import sentence, statement

MOST_FACTS = 7
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


def grouped_lines(
    rows: list[tuple[str, str, str, str]], seed: int, repeats: int = 2
) -> Iterator[str]:
    """Lines of questions that belong to images.

    Args:
        rows: (image, opening sentence, question, answer).
        seed: Decides which facts stand in front.
        repeats: Lines with facts in front for each question.
    """
    said = [statement(question, answer) for _, _, question, answer in rows]
    known: dict[str, list[str]] = defaultdict(list)
    for (image, *_), fact in zip(rows, said, strict=True):
        known[image].append(fact)
    for (image, opening, question, answer), own in zip(rows, said, strict=True):
        yield line(question, answer)
        for repeat in range(repeats):
            rng = rng_for(seed, "context", image, question, repeat)
            yield line(question, answer, context_of(opening, known[image], own, rng))


def slake_rows(path: Path) -> list[tuple[str, str, str, str]]:
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


def _inline(name: str) -> str:
    """A title as it stands inside a sentence."""
    return canonical_answer(name) if name else ""
