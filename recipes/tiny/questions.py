"""What is asked about whole pictures: open questions, and yes and no in balance, in people's own words."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pictures import NOT_MEDICAL, Picture, rng_for

WORDINGS = yaml.safe_load(Path(__file__).with_name("wordings.yaml").read_text("utf-8"))
NAMED = {name: text.split(" | ") for name, text in WORDINGS["named"].items()}
OPEN = ("modality", "organ", "plane", "view", "stain", "lesion", "finding", "cell", "tissue")
YES_NO = ("medical", "contrast", "tumour", "chest_abnormal", "breast_abnormal", "malignant")
# In training each source is asked about so often, task by task: the small ones in more wordings.
LEAST, MOST, TIMES = 60, 260, 6
NEAR = 0.5  # share of the noes that name something close


@dataclass(frozen=True)
class Question:
    """A question about a picture with its answer; ``named`` is what a yes/no question asks about."""

    picture: Picture
    task: str
    text: str
    answer: str
    named: str = ""

    @property
    def closed(self) -> bool:
        """Whether it is answered by yes or no."""
        return self.answer in ("yes", "no")


def questions_about(pictures: list[Picture], seed: int, kept: bool = False) -> list[Question]:
    """All questions about whole pictures.

    Args:
        pictures: Of one side of the split.
        seed: Of every draw.
        kept: Ask with the wordings that training never sees, each picture once a task.
    """
    asked = [q for task in OPEN for q in _open(pictures, task, seed, kept)]
    asked += [q for task in OPEN for q in _closed(pictures, task, seed, kept)]
    asked += [q for task in YES_NO for q in _yes_no(pictures, task, seed, kept)]
    asked += _of_what_is_not_medical(pictures, seed, kept)
    return asked


def _words(task: str, kind: str, kept: bool) -> list[str]:
    words = WORDINGS[task]
    names = {
        "open": ("asked", "kept"),
        "closed": ("closed", "closed_kept"),
        "yes_no": ("questions", "kept"),
    }
    return words.get(names[kind][kept], [])


def _times(count: int, kept: bool) -> int:
    """How often each of so many pictures of a source is asked about in one task."""
    return (
        1
        if kept
        else max(1, min(TIMES, -(-LEAST // count), MOST // count or 1))
        if count > 30
        else TIMES
    )


def _by_source(pictures: list[Picture], task: str) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        if task in picture.facts:
            found[picture.source].append(picture)
    return found


def _open(pictures: list[Picture], task: str, seed: int, kept: bool) -> Iterator[Question]:
    for inside in _by_source(pictures, task).values():
        for picture in inside:
            rng = rng_for(seed, "open", task, picture.name)
            words = _words(task, "open", kept)
            for text in rng.sample(words, min(_times(len(inside), kept), len(words))):
                yield Question(picture, task, text, picture.facts[task])


def _closed(pictures: list[Picture], task: str, seed: int, kept: bool) -> Iterator[Question]:
    """For each answer as many yes as no; half of the noes are about pictures that come close."""
    able = [p for p in pictures if task in p.facts]
    words = _words(task, "closed", kept)
    if not words:
        return
    of_answer: dict[str, list[Picture]] = defaultdict(list)
    for picture in able:
        of_answer[picture.facts[task]].append(picture)
    weight = {s: _times(len(inside), kept) for s, inside in _by_source(pictures, task).items()}
    for answer, own in sorted(of_answer.items()):
        rng = rng_for(seed, "closed", task, answer)
        near = [p for name in WORDINGS["near"].get(answer, []) for p in of_answer.get(name, [])]
        far = [p for p in able if p.facts[task] != answer]
        if not far or answer not in NAMED:
            continue
        for picture in own:
            for _ in range(weight[picture.source]):
                yield Question(picture, task, _ask(words, answer, rng), "yes", answer)
                other = rng.choice(near if near and rng.random() < NEAR else far)
                yield Question(other, task, _ask(words, answer, rng), "no", answer)


def _ask(words: list[str], answer: str, rng: random.Random) -> str:
    text = rng.choice(words).replace("{a}", rng.choice(NAMED[answer]))
    return text[:1].upper() + text[1:] if rng.random() < 0.7 else text


def _yes_no(pictures: list[Picture], task: str, seed: int, kept: bool) -> Iterator[Question]:
    """Yes and no in balance within each source, so that the source does not give the answer."""
    for source, inside in sorted(_by_source(pictures, task).items()):
        rng = rng_for(seed, "yes no", task, source)
        if kept:
            chosen = inside
        elif task == "medical":  # which no source has both of
            chosen = rng.sample(inside, min(len(inside), LEAST))
        else:
            of_answer = {a: [p for p in inside if p.facts[task] == a] for a in ("yes", "no")}
            if not all(of_answer.values()):
                continue
            most = min(3 * len(inside) // 2, TIMES * min(map(len, of_answer.values())))
            chosen = [p for own in of_answer.values() for p in _cycled(own, most, rng)]
        for picture in chosen:
            yield _asked_plainly_or_negated(picture, task, rng, kept)


def _cycled(pictures: list[Picture], count: int, rng: random.Random) -> list[Picture]:
    order = rng.sample(pictures, len(pictures))
    return [order[index % len(order)] for index in range(count)]


def _asked_plainly_or_negated(
    picture: Picture, task: str, rng: random.Random, kept: bool
) -> Question:
    answer, negated = picture.facts[task], WORDINGS[task].get("negated", [])
    if negated and not kept and rng.random() < 0.3:
        return Question(
            picture, task, rng.choice(negated), "no" if answer == "yes" else "yes", task
        )
    return Question(picture, task, rng.choice(_words(task, "yes_no", kept)), answer, task)


def _of_what_is_not_medical(pictures: list[Picture], seed: int, kept: bool) -> Iterator[Question]:
    """A photograph of something else has neither organ nor finding."""
    for picture in pictures:
        if picture.facts.get("medical") == "no":
            rng = rng_for(seed, "not medical", picture.name)
            yield Question(picture, "organ", rng.choice(_words("organ", "open", kept)), NOT_MEDICAL)
            task = rng.choice([task for task in YES_NO if task not in ("medical", "contrast")])
            yield Question(picture, task, rng.choice(_words(task, "yes_no", kept)), "no", task)


def sentence_about(picture: Picture) -> str:
    """What is known of a picture in one sentence, as an answer to "Describe the image."."""
    facts = picture.facts
    if facts.get("modality") == NOT_MEDICAL:
        return f"This is {NOT_MEDICAL}."
    what = facts.get("modality", "image")
    if "plane" in facts:
        what = f"{facts['plane']} {what}"
    if "view" in facts:
        what = f"{facts['view']} {what}"
    where = f" of {NAMED.get(facts['organ'], [facts['organ']])[0]}" if "organ" in facts else ""
    return f"{what[:1].upper()}{what[1:]}{where}{_shown(facts)}."


def _shown(facts: dict[str, str]) -> str:
    for task in ("lesion", "finding", "cell"):
        if task in facts:
            return f" with {NAMED.get(facts[task], [facts[task]])[0]}"
    if "tumour" in facts:
        return " with a tumor" if facts["tumour"] == "yes" else " without a tumor"
    for task in ("chest_abnormal", "breast_abnormal"):
        if task in facts:
            return ", abnormal" if facts[task] == "yes" else ", normal"
    return ""


def phrases_about(picture: Picture) -> list[tuple[str, str]]:
    """The facts as (task, phrase) for the text queue, yes and no said in words."""
    said = []
    for task, answer in picture.facts.items():
        if task in OPEN:
            said.append((task, answer))
        elif task in ("tumour", "malignant") or task.endswith("abnormal"):
            word = task.rpartition("_")[2].replace("tumour", "tumor")
            said.append(
                (task, word if answer == "yes" else f"no {word}" if word == "tumor" else "normal")
            )
    return said
