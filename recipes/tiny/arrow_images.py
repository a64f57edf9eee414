"""Make the arrow images of a set of pictures: plan balanced targets, draw, save, describe."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from arrows import TARGETS, Arrow, TipFinder, aim, apart, draw, with_article
from captions import opening
from pictures import Picture, rng_for
from PIL import Image
from things import quadrant

MAX_SIDE = 512
TWO_ARROWS = 0.35  # share of images with a second arrow of another colour and target


@dataclass(frozen=True)
class ArrowPicture:
    """An image with arrows on it, made from ``base``."""

    base: Picture  # with the size of the drawn image
    image: str  # relative to the image root
    arrows: tuple[Arrow, ...]

    @property
    def name(self) -> str:
        """Used in ids."""
        return f"arrows/{Path(self.image).stem}"

    def caption(self) -> str:
        """What the image shows and where the arrows point."""
        sentences = [opening(self.base)]
        for arrow in self.arrows:
            place = quadrant(*arrow.tip, self.base.size)
            goal = with_article(arrow.target) if arrow.target else f"the {place}" if place else ""
            if goal:
                sentences.append(
                    f"{with_article(arrow.colour).capitalize()} arrow points to {goal}."
                )
            else:
                sentences.append(f"There is {with_article(arrow.colour)} arrow.")
        return " ".join(sentences)


class ArrowMaker:
    """Draws arrows on copies of images below ``folder`` and saves them below it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed

    def aimed(
        self,
        pictures: list[Picture],
        per_target: dict[str, int],
        kind: str = "aimed",
        two: float = TWO_ARROWS,
    ) -> Iterator[ArrowPicture]:
        """Images whose arrows point at known things, each target of a source equally often.

        Args:
            pictures: To draw on.
            per_target: Images for each target of a source.
            kind: Names the files, and the draws.
            two: Share of images with two arrows; with 1 there are no others.
        """
        for source, number in per_target.items():
            jobs: dict[str, list[str]] = {}
            of_source = {p.name: p for p in pictures if p.source == source}
            offers = {name: self._finder(p)[0].names() for name, p in of_source.items()}
            for target in TARGETS[source]:
                able = [name for name, names in offers.items() if target in names]
                rng_for(self.seed, "plan", source, target, len(able)).shuffle(able)
                for turn in range(number if able else 0):
                    jobs.setdefault(able[turn % len(able)], []).append(target)
            for name in sorted(jobs):
                yield from self._of_picture(of_source[name], jobs[name], kind, two)

    def anywhere(self, pictures: list[Picture], number: int) -> Iterator[ArrowPicture]:
        """Images with one arrow at a random place, evenly over the pictures."""
        chosen = sorted(pictures, key=lambda p: p.name)
        rng_for(self.seed, "anywhere", number).shuffle(chosen)
        turns: dict[str, int] = {}
        for index in range(number if chosen else 0):
            picture = chosen[index % len(chosen)]
            turns[picture.name] = turns.get(picture.name, 0) + 1
        for picture in chosen:
            yield from self._of_picture(picture, [""] * turns.get(picture.name, 0), "anywhere", 0)

    def _finder(self, picture: Picture) -> tuple[TipFinder, Image.Image]:
        with Image.open(self.folder / picture.image) as file:
            image = file.convert("RGB")
        if not picture.things:
            image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        return TipFinder(replace(picture, size=image.size), image), image

    def _of_picture(
        self, picture: Picture, targets: list[str], kind: str, two: float
    ) -> Iterator[ArrowPicture]:
        if not targets:
            return
        finder, image = self._finder(picture)
        for turn, target in enumerate(targets):
            rng = rng_for(self.seed, "arrow", kind, picture.name, turn)
            arrows = self._choose(finder, image, target, rng, two)
            if len(arrows) < 1 + (two == 1):
                continue
            name = f"images/arrows/{picture.source}_{Path(picture.image).stem}_{kind}{turn}.jpg"
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(image, list(arrows)).save(path, quality=90)
            yield ArrowPicture(finder.picture, name, arrows)

    def _choose(
        self,
        finder: TipFinder,
        image: Image.Image,
        target: str,
        rng: random.Random,
        two: float,
    ) -> tuple[Arrow, ...]:
        first = aim(finder, image, target, rng)
        if first is None or not target or (two < 1 and rng.random() > two):
            return (first,) if first else ()
        others = [name for name in finder.names() if name != target]
        for _ in range(8 if others else 0):
            second = aim(finder, image, rng.choice(others), rng)
            if second and second.colour != first.colour and apart(first, second):
                return first, second
        return (first,)
