"""Questions about the boxed things of an image."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from pictures import Picture, PixelBox, Thing, rng_for

PLURALS = {"nucleus": "nuclei"}
FINDINGS = {
    "polyp": "a polyp",
    "ulcerative colitis": "ulcerative colitis",
    "age-related macular degeneration": "age-related macular degeneration",
    "macular hole": "a macular hole",
}


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    ``task`` names the skill, for breakdowns and for keeping the queue clear of the answer;
    questions of one ``topic`` are balanced against each other. ``seen_in``: where in the image the
    answer is to be seen, if that is known.
    """

    task: str
    topic: str
    question: str
    answer: str
    closed: bool = False
    seen_in: tuple[PixelBox, ...] = ()


def plural(name: str) -> str:
    """More than one of the thing."""
    return PLURALS.get(name, f"{name}s")


def quadrant(x: float, y: float, size: tuple[int, int], margin: float = 0.1) -> str:
    """``"upper left"`` and so on; empty when the point is near a middle line of the image."""
    across, down = x / size[0] - 0.5, y / size[1] - 0.5
    if min(abs(across), abs(down)) < margin:
        return ""
    return f"{'upper' if down < 0 else 'lower'} {'left' if across < 0 else 'right'}"


def side(x: float, width: int, margin: float = 0.12) -> str:
    """``"left"`` or ``"right"`` half; empty near the middle."""
    across = x / width - 0.5
    return "" if abs(across) < margin else ("left" if across < 0 else "right")


def only(picture: Picture, name: str) -> Thing | None:
    """The one object of this name, if there is exactly one."""
    found = [thing for thing in picture.things if thing.name == name]
    return found[0] if len(found) == 1 else None


def nuclei_bin(count: int) -> str:
    """The range a number of nuclei falls in."""
    for limit, text in ((9, "fewer than 10"), (25, "10 to 25"), (50, "26 to 50")):
        if count <= limit:
            return text
    return "more than 50"


def polyp_size(picture: Picture) -> str:
    """``"small"`` or ``"large"`` for one polyp that clearly is; else empty."""
    polyp = only(picture, "polyp")
    share = polyp.area / (picture.size[0] * picture.size[1]) if polyp else 0.12
    return "small" if share < 0.08 else "large" if share > 0.2 else ""


def crowded_side(picture: Picture) -> str:
    """The half with at least two thirds of six or more nuclei; else empty."""
    across = [thing.centre[0] for thing in picture.things if thing.name == "nucleus"]
    if len(across) < 6:
        return ""
    left = sum(x < picture.size[0] / 2 for x in across) / len(across)
    return "left" if left > 0.67 else "right" if left < 0.33 else ""


def boxes(picture: Picture, name: str) -> tuple[PixelBox, ...]:
    """The boxes of all objects of this name."""
    return tuple(thing.box for thing in picture.things if thing.name == name)


def _each(
    task: str, topic: str, answer: str, *questions: str, seen_in: tuple[PixelBox, ...] = ()
) -> Iterator[Question]:
    closed = answer in ("yes", "no")
    for question in questions:
        yield Question(task, topic, question, answer, closed, seen_in)


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def presence_questions(picture: Picture, rng: random.Random) -> Iterator[Question]:
    """Yes/no about objects, the noes from images of another kind and from empty counts."""
    names = ("white blood cell", "platelet", "polyp", "nucleus")
    for name in names:
        count = picture.count(name)
        if name == "nucleus" and picture.source == "blood_cells":
            continue  # white blood cells have nuclei that nobody boxed
        if count == 0 and rng.random() < 0.5:
            continue
        ask = (f"Is there a {name} in the image?", f"Are there any {plural(name)}?")
        inside = picture.source in ("blood_cells", "endoscopy") and name != "nucleus"
        topic = f"presence {name}" + (f" in {picture.source}" if inside else "")
        shown = boxes(picture, name)
        yield from _each("presence", topic, _yes(count > 0), *ask, seen_in=shown)


def count_questions(picture: Picture, rng: random.Random) -> Iterator[Question]:
    """How many cells, platelets or nuclei."""
    if picture.source == "blood_cells":
        yield from _blood_counts(picture)
    if picture.source == "nuclei":
        count = picture.labels["count"]
        ask = ("How many nuclei are there?", "How many nuclei are visible in the image?")
        ask = (*ask, "What is the number of nuclei?")
        yield from _each("count", "count nuclei", nuclei_bin(count), *ask)
        for limit in (10, 25, 50):
            if not 0.8 * limit < count < 1.25 * limit:
                more = f"Are there more than {limit} nuclei?"
                yield from _each("count", f"more than {limit} nuclei", _yes(count > limit), more)


def _blood_counts(picture: Picture) -> Iterator[Question]:
    for name, most in (("white blood cell", 2), ("platelet", 2)):
        count = picture.count(name)
        answer = str(count) if count <= most else f"more than {most}"
        names = plural(name)
        ask = (f"How many {names} are there?", f"How many {names} are visible in the image?")
        ask = (*ask, f"What is the number of {names}?")
        shown = boxes(picture, name)
        yield from _each("count", f"count {name}", answer, *ask, seen_in=shown)
        more = (f"Is there more than one {name}?", f"Are there two or more {names}?")
        topic = f"more than one {name}"
        yield from _each("count", topic, _yes(count > 1), *more, seen_in=shown)
    red = picture.count("red blood cell")
    if red and not 9 < red < 15:  # a few images have no red cell boxed although cells are there
        many = ("Are there more than 12 red blood cells?", "Are there many red blood cells?")
        yield from _each("count", "many red blood cells", _yes(red > 12), *many)


def place_questions(picture: Picture, rng: random.Random) -> Iterator[Question]:
    """Quadrant and side of the only object of its name, where they are unambiguous."""
    for name in ("white blood cell", "platelet", "polyp"):
        thing = only(picture, name)
        if thing is None:
            continue
        if place := quadrant(*thing.centre, picture.size):
            ask = (f"Where is the {name}?", f"In which quadrant is the {name}?")
            ask = (*ask, f"Which part of the image contains the {name}?")
            yield from _each("quadrant", f"quadrant {name}", place, *ask, seen_in=(thing.box,))
        if half := side(thing.centre[0], picture.size[0]):
            yield from _side(thing, half)
        if level := side(thing.centre[1], picture.size[1]):
            truth = _yes(level == "left")  # of the vertical axis: the smaller coordinate is up
            upper = f"Is the {name} in the upper half of the image?"
            yield from _each("side", f"upper {name}", truth, upper, seen_in=(thing.box,))
    if half := crowded_side(picture):
        ask = ("Which side of the image has more nuclei?", "Where are most of the nuclei?")
        yield from _each("side", "side nuclei", half, *ask)


def _side(thing: Thing, half: str) -> Iterator[Question]:
    name, shown = thing.name, (thing.box,)
    ask = (f"On which side of the image is the {name}?", f"Is the {name} left or right?")
    yield from _each("side", f"side {name}", half, *ask, seen_in=shown)
    for way in ("left", "right"):
        ask = (f"Is the {name} on the {way} side of the image?",)
        yield from _each("side", f"{way} {name}", _yes(way == half), *ask, seen_in=shown)


def size_questions(picture: Picture, rng: random.Random) -> Iterator[Question]:
    """Small or large polyp."""
    if not (size := polyp_size(picture)):
        return
    ask = ("Is the polyp small or large?", "What is the size of the polyp?")
    shown = boxes(picture, "polyp")
    yield from _each("size", "size polyp", size, *ask, seen_in=shown)
    for name in ("small", "large"):
        ask = (f"Is the polyp {name}?",)
        yield from _each("size", f"{name} polyp", _yes(name == size), *ask, seen_in=shown)


def balanced(
    asked: list[tuple[Picture, Question]], cap: int, seed: int
) -> list[tuple[Picture, Question]]:
    """Keep at most ``cap`` of each answer of a topic, and as many yes as no.

    Images take turns: no image has a second question of a topic and answer before all have one.
    A yes/no topic that knows only one of the answers is dropped, as it teaches a habit only.
    """
    topics: dict[str, dict[str, list[tuple[Picture, Question]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for picture, question in asked:
        topics[question.topic][question.answer].append((picture, question))
    kept = []
    for topic, answers in sorted(topics.items()):
        most = cap
        if any(question.closed for items in answers.values() for _, question in items):
            most = min(cap, len(answers["yes"]), len(answers["no"]))
        for answer, items in sorted(answers.items()):
            rng = rng_for(seed, "balance", topic, answer)
            kept += _in_turns(items, rng)[:most]
    return kept


def _in_turns(
    items: list[tuple[Picture, Question]], rng: random.Random
) -> list[tuple[Picture, Question]]:
    items = list(items)
    rng.shuffle(items)
    turn: dict[str, int] = defaultdict(int)
    keyed = []
    for picture, _ in items:
        keyed.append((turn[picture.name], len(keyed)))
        turn[picture.name] += 1
    return [items[index] for _, index in sorted(keyed)]
