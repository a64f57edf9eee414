"""Make ``sample/``: records to try training and evaluation with, from the pictures beside this script.

Run it as ``python examples/make_sample.py``. Each picture is cut, turned and brightened in ten ways; on
half of them an arrow is drawn. All come from three pictures: enough to see every step work, and to learn
these three, not to measure a model.
"""

from __future__ import annotations

import random
from pathlib import Path

from make_examples import draw_arrow
from PIL import Image, ImageEnhance

from biod2c_core.data.records import Record, write_records

SIZE = 224  # pixels
SPLITS = ("train",) * 6 + ("validation",) * 2 + ("test",) * 2
PICTURES = {
    "chest_xray": ("x-ray", "chest", ("lung", "rib", "heart")),
    "abdomen_mri": ("mri", "abdomen", ("liver", "kidney", "spleen")),
    "head_ct": ("ct", "head", ("skull", "brain", "ventricle")),
}
QUADRANTS = {
    "upper left": (0.28, 0.28),
    "upper right": (0.72, 0.28),
    "lower left": (0.28, 0.72),
    "lower right": (0.72, 0.72),
}
_REACH = 0.08  # of the box around the tip of an arrow, to each side


def vary(picture: Image.Image, generator: random.Random) -> Image.Image:
    """Cut, turned and brightened a little."""
    turned = picture.rotate(generator.uniform(-8, 8), Image.Resampling.BICUBIC)
    margins = [generator.uniform(0.02, 0.1) for _ in range(4)]
    width, height = turned.size
    left, top = margins[0] * width, margins[1] * height
    cut = turned.crop((round(left), round(top), round(width * (1 - margins[2])), height))
    square = cut.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return ImageEnhance.Brightness(square).enhance(generator.uniform(0.8, 1.2))


def point(picture: Image.Image, quadrant: str, generator: random.Random) -> Image.Image:
    """An arrow from the middle into a quadrant."""
    x, y = QUADRANTS[quadrant]
    tip = (round(x * SIZE), round(y * SIZE))
    tail = (SIZE // 2 + generator.randint(-12, 12), SIZE // 2 + generator.randint(-12, 12))
    return draw_arrow(picture, tip, tail)


def questions_about(
    name: str, kind: str, split: str, quadrant: str | None, generator: random.Random
) -> list[Record]:
    """Open and closed questions about one image."""
    modality, organ, queue = PICTURES[kind]
    other = generator.choice([each for each, _, _ in PICTURES.values() if each != modality])
    asked = [
        ("modality", "What imaging modality is this?", modality, "OPEN"),
        ("organ", "What organ is shown?", organ, "OPEN"),
        ("is", f"Is this an image of the {organ}?", "yes", "CLOSED"),
        ("not", f"Was this image taken by {other}?", "no", "CLOSED"),
    ]
    if quadrant is not None:
        asked.append(("arrow", "Where does the arrow point?", quadrant, "OPEN"))
    x, y = QUADRANTS.get(quadrant or "", (0.0, 0.0))
    box = (x - _REACH, y - _REACH, x + _REACH, y + _REACH)
    return [
        Record(
            id=f"{name}-{key}",
            image=f"images/{name}.jpg",
            question=question,
            answer=answer,
            answer_type=answer_type,
            queue=queue,
            boxes=(box,) if key == "arrow" else (),
            source="sample",
            split=split,
            tags={"task": key},
        )
        for key, question, answer, answer_type in asked
    ]


def main() -> None:
    """Write the images and both record files."""
    folder = Path(__file__).parent / "sample"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    questions: list[Record] = []
    captions: list[Record] = []
    for kind, (modality, organ, _) in PICTURES.items():
        picture = Image.open(Path(__file__).parent / f"{kind}.jpg").convert("L")
        for index, split in enumerate(SPLITS):
            name, image = f"{kind}_{index}", vary(picture, generator)
            quadrant = generator.choice(list(QUADRANTS)) if index % 2 else None
            caption = f"{'an' if modality[0] in 'mx' else 'a'} {modality} of the {organ}"
            if quadrant is not None:
                image = point(image, quadrant, generator)
                caption += f" with an arrow that points to the {quadrant}"
            image.save(folder / "images" / f"{name}.jpg", quality=80)
            questions += questions_about(name, kind, split, quadrant, generator)
            captions.append(
                Record(
                    id=name,
                    image=f"images/{name}.jpg",
                    question="Describe the image.",
                    answer=caption,
                    caption=caption,
                    source="sample",
                    split=split,
                )
            )
    write_records(folder / "questions.jsonl", questions)
    write_records(folder / "captions.jsonl", captions)


if __name__ == "__main__":
    main()
