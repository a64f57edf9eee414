"""The benchmark of the page asks exactly as many questions as it is told to."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[4] / "benchmarks" / "browser.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("browser_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions 1 to 6 of each of nine pictures, more of the later ones."""
    file = tmp_path_factory.mktemp("data") / "records.jsonl"
    rows = [
        {
            "id": f"{picture}-{number}",
            "image": f"{picture}.png",
            "question": f"{number}?",
            "answer": "x",
        }
        for picture in range(9)
        for number in range(1 + picture * 2 // 3)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("count", [1, 7, 13, 29, 30])
def test_exactly_so_many_questions_are_chosen(
    benchmark: ModuleType, data: Path, count: int
) -> None:
    chosen = benchmark.choose(str(data), Path("images"), count)
    assert sum(map(len, chosen.values())) == count
    for picture, questions in list(chosen.items())[:-1]:  # of the last one some may be left out
        place = int(picture.stem)
        assert questions == [f"{number}?" for number in range(1 + place * 2 // 3)]
        assert picture == Path("images") / f"{place}.png"


def test_the_pictures_are_spread_over_the_data(benchmark: ModuleType, data: Path) -> None:
    places = [int(picture.stem) for picture in benchmark.choose(str(data), Path(), 10)]
    assert min(places) < 3
    assert max(places) > 4


def test_more_than_there_are_is_refused(benchmark: ModuleType, data: Path) -> None:
    with pytest.raises(ValueError, match=r"has 30 questions, not 31"):
        benchmark.choose(str(data), Path(), 31)
