"""The pointing game: does the map's maximum fall on what the question is about?

``BIOD2C_DATA=../shared/data python recipes/tiny/pointing.py [--model CHECKPOINT]`` asks held-out images where
their only polyp, their white blood cells, or an arrow drawn on them are, and looks where the model looks:

- ``fusion``, ``gradient``, ``language``: the three methods of ``biod2c attn-map``;
- ``fusion off``: the same weights without the gated term of Eq. (2), by the method ``language``;
- beside them what the area of the boxes and a guess at the middle of the image would score.

Then, on images with two arrows of different colours, it asks for each of them: ``both`` counts the images
where each map's maximum lies in its own arrow's box, ``shift`` those where each arrow has a larger share of
its own question's map than of the other's. Rates come with 95% Wilson intervals. The images are those that
``make_data.py`` with the same seed keeps out of training.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from arrows import Arrow, aim, apart, draw
from arrows import TipFinder as Finder
from make_data import labelled_pictures, original
from PIL import Image
from sources import Picture, rng_for

from biod2c_core.inference.attention.attention_map import METHODS, View
from biod2c_core.inference.attention.boxes import PixelBox, score_boxes
from biod2c_core.inference.attention.explain import map_trace
from biod2c_core.inference.attention.trace import trace_answer, without_fusion
from biod2c_core.model.generation import Answerer

Pair = tuple[Image.Image, Arrow, Arrow]  # the image without arrows, and two for it
OFF = "fusion off"
SHOWN = (*METHODS, OFF)


@dataclass(frozen=True)
class Case:
    """A question about where something is, and the boxes that are right."""

    kind: str
    image: Image.Image
    question: str
    boxes: tuple[PixelBox, ...]


def object_cases(root: Path, pictures: list[Picture], limit: int) -> Iterator[Case]:
    """Held-out images with one polyp, and with white blood cells."""
    for kind, name in (("endoscopy", "polyp"), ("blood_cells", "white blood cell")):
        found = [p for p in pictures if p.source == kind and p.count(name)]
        found = [p for p in found if name != "polyp" or p.count(name) == 1]
        for picture in found[:limit]:
            boxes = tuple(thing.box for thing in picture.things if thing.name == name)
            yield Case(name, load(root, picture), f"Where is the {name}?", boxes)


def load(root: Path, picture: Picture) -> Image.Image:
    """The picture as published, RGB."""
    with Image.open(original(root, picture)) as file:
        return file.convert("RGB")


def arrow_cases(pairs: list[Pair]) -> list[Case]:
    """Images on which only the first arrow of the pair is drawn."""
    cases = []
    for image, first, _ in pairs:
        question = f"Where does the {first.colour} arrow point?"
        box = first.box(image.size)
        cases.append(Case("drawn arrow", draw(image, [first]), question, (box,)))
    return cases


def arrow_pairs(root: Path, pictures: list[Picture], limit: int, seed: int) -> Iterator[Pair]:
    """Images with two arrows of different colours, neither near the other's tip, boxes apart."""
    usable = [p for p in pictures if p.source in ("endoscopy", "blood_cells", "nuclei")]
    rng_for(seed, "pointing").shuffle(usable)
    made = 0
    for picture in usable:
        if made == limit:
            return
        image, rng = load(root, picture), rng_for(seed, "pointing", picture.name)
        finder = Finder(picture, image)
        for _ in range(20):
            first, second = (aim(finder, image, "", rng) for _ in range(2))
            if first and second and first.colour != second.colour and apart(first, second):
                one, two = first.box(image.size), second.box(image.size)
                if one[2] < two[0] or two[2] < one[0] or one[3] < two[1] or two[3] < one[1]:
                    made += 1
                    yield image, first, second
                    break


def maps_of(answerer: Answerer, image: Image.Image, question: str) -> dict[str, torch.Tensor]:
    """The map by each way of looking, (H, W)."""
    pixels = answerer.processor.pixels(image)
    (answer,) = answerer.answer([image], [question])
    trace = trace_answer(answerer, pixels, question, answer.ids, gradients=True)
    maps = {method: map_trace(trace, View(method))[0] for method in METHODS}
    with without_fusion(answerer.model):
        (answer,) = answerer.answer([image], [question])
        trace = trace_answer(answerer, pixels, question, answer.ids)
    return {**maps, OFF: map_trace(trace, View("language"))[0]}


def rate(hits: list[bool]) -> str:
    """A share with its Wilson interval."""
    n, share, z = len(hits), sum(hits) / len(hits), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"{share:.2f} ({middle - half:.2f}-{middle + half:.2f})"


def contains_middle(case: Case) -> bool:
    """Whether a guess at the middle of the image is right."""
    x, y = case.image.width / 2, case.image.height / 2
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in case.boxes)


def play(answerer: Answerer, cases: list[Case]) -> None:
    """Print a row for each kind of object."""
    print(f"| object | n | {' | '.join(SHOWN)} | area | middle |")
    print("|---" * (len(SHOWN) + 4) + "|")
    kinds: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        kinds[case.kind].append(case)
    for kind, own in kinds.items():
        hits: dict[str, list[bool]] = defaultdict(list)
        areas = []
        for case in own:
            for name, values in maps_of(answerer, case.image, case.question).items():
                scores = score_boxes(values.numpy(), case.image.size, case.boxes)
                hits[name].append(any(score.hit for score in scores))
            areas.append(sum(score.area for score in scores))
        columns = [rate(hits[name]) for name in SHOWN]
        middle = rate([contains_middle(case) for case in own])
        area = sum(areas) / len(areas)
        print(
            f"| {kind} | {len(own)} | {' | '.join(columns)} | {area:.2f} | {middle} |", flush=True
        )


def play_pairs(answerer: Answerer, pairs: list[Pair]) -> None:
    """Print the test of two objects."""
    both: dict[str, list[bool]] = defaultdict(list)
    shift: dict[str, list[bool]] = defaultdict(list)
    alike: dict[str, list[float]] = defaultdict(list)
    for image, *arrows in pairs:
        boxes = [arrow.box(image.size) for arrow in arrows]
        asked = [f"Where does the {arrow.colour} arrow point?" for arrow in arrows]
        maps = [maps_of(answerer, image, question) for question in asked]
        for name in SHOWN:
            scores = [score_boxes(each[name].numpy(), image.size, boxes) for each in maps]
            both[name].append(scores[0][0].hit and scores[1][1].hit)
            own = [scores[i][i].mass > scores[1 - i][i].mass for i in (0, 1)]
            shift[name].append(all(own))
            flat = torch.stack([each[name].flatten() for each in maps])
            alike[name].append(float(torch.corrcoef(flat)[0, 1]))
    print(f"\n| two arrows, {len(pairs)} images | {' | '.join(SHOWN)} |")
    print("|---" * (len(SHOWN) + 1) + "|")
    print(f"| both | {' | '.join(rate(both[name]) for name in SHOWN)} |")
    print(f"| shift | {' | '.join(rate(shift[name]) for name in SHOWN)} |")
    means = [sum(alike[name]) / len(pairs) for name in SHOWN]
    print(f"| alike | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def main() -> None:
    """Parse the arguments and play."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="checkpoint; by default the embedded biod2c-tiny")
    default = os.environ.get("BIOD2C_DATA", "../shared/data")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=100, help="most images of each kind")
    arguments = parser.parse_args()
    answerer = Answerer.load(arguments.model, "cpu")
    everything = labelled_pictures(arguments.root, arguments.seed, 0)
    pictures = [picture for picture in everything if picture.part == "heldout"]
    pairs = list(arrow_pairs(arguments.root, pictures, arguments.limit, arguments.seed))
    cases = list(object_cases(arguments.root, pictures, arguments.limit))
    cases += arrow_cases(pairs)
    play(answerer, cases)
    drawn_pairs = [(draw(image, [one, two]), one, two) for image, one, two in pairs]
    play_pairs(answerer, drawn_pairs)


if __name__ == "__main__":
    main()
