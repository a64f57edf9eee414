"""Whether a folder of ``biod2c export --onnx`` answers in a browser as ``ask`` does, and how soon.

    biod2c export PAGE --onnx && npm install --prefix PAGE
    python benchmarks/browser.py PAGE DATA [--image-root IMAGES] [--model CHECKPOINT] [--questions 200]

The folder is served as ``python -m http.server`` does, and its page driven in headless Chromium as a person
does: a picture dropped, a question typed, the answer read. The pictures are spread evenly over DATA; all
their questions also go to ``ask``'s model here. What differs is printed. Times are those of the wall and,
for a busy machine, of the browser's processors. Memory is what all processes of the browser have for
themselves (PSS), less that of the browser with an empty tab.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

import biod2c

TESTS = Path(__file__).resolve().parents[1] / "tests" / "core"
sys.path[:0] = [str(TESTS / "evaluation"), str(TESTS / "inference" / "browser")]

from asked_page import answer, as_shown, open_page, served  # noqa: E402
from chromium import Page, find_browser, open_browser  # noqa: E402


def memory() -> float:
    """MB that the browser's processes have for themselves."""
    processes = psutil.Process().children(recursive=True)
    return sum(each.memory_full_info().pss for each in processes) / 1e6


class Clock:
    """Time since it was made, on the wall and on all processors of the browser."""

    def __init__(self) -> None:
        self.began = time.monotonic(), self._worked()

    def __str__(self) -> str:
        wall, work = time.monotonic() - self.began[0], self._worked() - self.began[1]
        return f"{wall:.2f} s ({work:.2f} s of processors)"

    @staticmethod
    def _worked() -> float:
        processes = psutil.Process().children(recursive=True)
        return sum(sum(each.cpu_times()[:2]) for each in processes)


def choose(data: str, root: Path, count: int) -> dict[Path, list[str]]:
    """So many questions: all of as few pictures as it takes, spread over the data; of the last one some.

    Raises:
        ValueError: The data have fewer.
    """
    by_picture: dict[Path, list[str]] = {}
    for record in biod2c.read_records(data):
        by_picture.setdefault(root / record.image, []).append(record.question)
    pictures = list(by_picture)
    for number in range(1, len(pictures) + 1):
        spread = [pictures[place * len(pictures) // number] for place in range(number)]
        questions = [(picture, each) for picture in spread for each in by_picture[picture]]
        if len(questions) >= count:
            chosen: dict[Path, list[str]] = {}
            for picture, each in questions[:count]:
                chosen.setdefault(picture, []).append(each)
            return chosen
    raise ValueError(f"{data} has {sum(map(len, by_picture.values()))} questions, not {count}")


def compare(page: Page, model: Any, asked: dict[Path, list[str]]) -> tuple[int, int]:
    """How many answers, and how many lines of confidence and familiarity, are those of ``ask``."""
    texts = lines = done = 0
    for image, questions in asked.items():
        for place, reply in enumerate(model.ask(image, questions)):
            right = as_shown(reply)
            found = answer(page, image, questions[place], drop=place == 0)
            texts += found[0] == right[0]
            lines += found[1] == right[1]
            done += 1
            if found != right:
                print(f"{image.name} {questions[place]!r}: {found}; ask: {right}", flush=True)
        print(f"{done} asked, {texts} answers as ask's", file=sys.stderr)
    return texts, lines


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("data")
    parser.add_argument("--image-root", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    browser = find_browser()
    if browser is None:
        parser.error("there is no Chromium here")
    root = options.image_root or Path(options.data)
    try:
        asked = choose(options.data, root, options.questions)
    except ValueError as error:
        parser.error(str(error))
    image, *_ = asked
    count = sum(map(len, asked.values()))
    model = biod2c.load(options.model, "cpu")
    with (
        served(options.page) as address,
        tempfile.TemporaryDirectory() as folder,
        open_browser(browser, Path(folder)) as page,
    ):
        empty = memory()
        clock = Clock()
        open_page(page, address)
        print(f"loaded in {clock}")
        clock = Clock()
        answer(page, image, asked[image][0])
        print(f"first answer in {clock}")
        clock = Clock()
        answer(page, image, "Is this an X-ray?", drop=False)
        print(f"the next about the same picture in {clock}")
        print(f"memory after it: {memory() - empty:.0f} MB more than an empty tab's {empty:.0f} MB")
        texts, lines = compare(page, model, asked)
        print(f"{texts} of {count} answers as ask's; {lines} with its confidence and familiarity")
        print(f"memory after them: {memory() - empty:.0f} MB more")
        foreign = [each for each in page.problems if f"requested {address}" not in each]
        print("\n".join(foreign) or "nothing was requested from elsewhere, and nothing went wrong")
    return 0 if texts == count and not foreign else 1


if __name__ == "__main__":
    sys.exit(main())
