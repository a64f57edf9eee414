"""A model without weights, importable by the processes that tests start."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predict import predict
from biod2c_core.evaluation.predict.sharding import Job, predict_on


@dataclass
class Said:
    text: str
    confidence: float = 0.5


@dataclass
class FakeModel:
    """Answers with the colour of the image; dies after ``patience`` batches."""

    patience: int = 1_000_000
    name: str = "fake"
    identity: str = "f00d"
    asked: list[str] = field(default_factory=list)
    images_seen: int = 0
    pause: float = 0.0

    def answer_images(
        self, images: Sequence[Image.Image], questions: Sequence[tuple[int, str]]
    ) -> list[Said]:
        if self.patience == 0:
            raise KeyboardInterrupt
        time.sleep(self.pause)
        self.patience -= 1
        self.images_seen += len(images)
        self.asked += [question for _, question in questions]
        return [Said(f"{question} {images[i].getpixel((0, 0))[0]}") for i, question in questions]


def load_fake(checkpoint: str | None, device: str) -> FakeModel:
    """A model whose weights depend on the checkpoint alone."""
    return FakeModel(identity=f"weights of {checkpoint}")


def make_data(folder: Path, images: int = 6, questions: int = 40) -> list[Record]:
    for index in range(images):
        Image.new("RGB", (8, 8), (10 * index, 0, 0)).save(folder / f"{index}.png")
    return [
        Record(f"q{i}", f"{i * 7 % images}.png", f"question {i}?", "yes") for i in range(questions)
    ]


def load_slow_fake(checkpoint: str | None, device: str) -> FakeModel:
    return FakeModel(pause=0.05)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    questions, predictions = make_data(place, 40, 400), place / "p.jsonl"
    if sys.argv[2] == "alone":
        predict(FakeModel(pause=0.01), questions, place, predictions)
    else:
        job = Job(load_slow_fake, None, questions, place, predictions, None)
        predict_on(["cpu", "cpu"], job)
