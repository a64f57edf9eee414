"""However processes and micro-batches cut an update, it has the loss and gradients of one batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
import update_cuts
from forked import Forks, forks
from safetensors.torch import load_file

HAS_DEEPSPEED = find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(
    not HAS_DEEPSPEED, reason="deepspeed is not installed; extra 'train'"
)
FEW, MANY = 3, 25  # cuts
PLACES = [
    pytest.param("ddp", 3, FEW),
    pytest.param("fsdp", 2, FEW),
    pytest.param("zero2", 2, FEW, marks=needs_deepspeed),
    *(
        pytest.param(
            *(engine, processes, MANY),
            marks=[pytest.mark.slow, *([needs_deepspeed] if engine == "zero2" else [])],
        )
        for engine in ("ddp", "fsdp", "zero2")
        for processes in (2, 3)
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Forks]:
    with forks("update_cuts", *(["deepspeed"] if HAS_DEEPSPEED else [])) as started:
        yield started


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return update_cuts.write(tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="module")
def update(llama: Path, written: Path) -> update_cuts.Update:
    return update_cuts.Update(llama, written)


@pytest.mark.parametrize(("engine", "processes", "count"), PLACES)
def test_an_update_is_the_same_however_processes_cut_it(
    engine: str,
    processes: int,
    count: int,
    server: Forks,
    update: update_cuts.Update,
    llama: Path,
    written: Path,
    tmp_path: Path,
) -> None:
    random = Random(f"{engine}{processes}{count}")
    cuts = [update_cuts.draw(random, processes) for _ in range(count)]
    (tmp_path / "cuts.json").write_text(json.dumps(cuts))
    ended = server.run([engine, llama, written, tmp_path], processes, "update_cuts")
    assert [each.code for each in ended] == [0] * processes, [each.stderr for each in ended]
    losses = json.loads((tmp_path / "losses.json").read_text())
    for number, (cut, loss) in enumerate(zip(cuts, losses, strict=True)):
        gradients = load_file(tmp_path / f"{number}.safetensors")
        update_cuts.assert_same(loss, gradients, update.whole(cut.chosen))
