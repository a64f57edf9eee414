"""How much faster 20 questions about one image are when the image is encoded once.

    python benchmarks/ask_many.py [--model CHECKPOINT] [--image FILE]

20 questions in one call of ``ask``'s session against 20 calls in the same process that encode the image
for each. The answers must be identical first; then both ways are run in turn on one thread, and the
ratio of their best process times is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from biod2c_core.inference.questions import Question
from biod2c_core.inference.session import ImageSession
from biod2c_core.inference.vqa_model import VQAModel

ROUNDS = 3
QUESTIONS = (
    "What imaging modality is this?",
    "Is there a fracture?",
    "Is there a pleural effusion?",
    "Which organ is shown in the image?",
    "Is the heart enlarged?",
    "Where is the lesion?",
    "Is this an axial image?",
    "What plane is this?",
    "Was contrast given?",
    "Is there a pneumothorax?",
    "What abnormality is seen?",
    "Is there an arrow in the image?",
    "Are the lungs clear?",
    "How many nuclei are there?",
    "Is there a mass in the liver?",
    "What part of the body is shown in this image?",
    "Is the trachea midline?",
    "What stain was used?",
    "Is the spine visible?",
    "Which side is abnormal?",
)


def one_by_one(session: ImageSession) -> list[str]:
    """Each question alone, the image encoded every time."""
    return [session.model.answerer.answer([session.image], [text])[0].text for text in QUESTIONS]


def together(session: ImageSession) -> list[str]:
    """All questions of a session, the image encoded once."""
    session.look_at(session.image)
    return [reply.answer or "" for reply, _ in session.ask([Question(text) for text in QUESTIONS])]


def seconds(work: Callable[[], object]) -> float:
    """Process CPU time of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Check that the answers are the same, then time both ways in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="checkpoint; by default the embedded biod2c-tiny")
    examples = Path(__file__).resolve().parent.parent / "examples"
    parser.add_argument("--image", type=Path, default=examples / "chest_xray.jpg")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with Image.open(arguments.image) as file:
        model = VQAModel.load(arguments.model, "cpu")
        session = ImageSession.open(model, file.convert("RGB"))
    if together(session) != one_by_one(session):
        sys.exit("the two ways do not give the same answers; nothing was measured")
    slow, fast = [], []
    for _ in range(ROUNDS):
        slow.append(seconds(lambda: one_by_one(session)))
        fast.append(seconds(lambda: together(session)))
    print(f"one by one {min(slow):.2f} s, together {min(fast):.2f} s: {min(slow) / min(fast):.1f}x")


if __name__ == "__main__":
    main()
