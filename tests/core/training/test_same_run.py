"""A resumed run is the same run: changed inputs are refused, changed settings told, starts remembered."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from biod2c_core.errors import InputError
from biod2c_core.training.run_lock import LOCK, locked
from biod2c_core.training.train import train


def go(
    llama: Path, data: Path, output: Path, resume: bool = True, **changes: Any
) -> tiny_models.Silent:
    reporter = tiny_models.Silent()
    values = {"max_steps": 2, "save_every": 1, **changes}
    train(
        tiny_models.training_config(llama, **values),
        2,
        [data],
        output,
        reporter,
        validation=data.with_name("validation.jsonl"),
        resume=resume,
        device="cpu",
    )
    return reporter


@pytest.fixture(scope="module")
def begun(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model, data, and a run of two steps on them."""
    root = tmp_path_factory.mktemp("begun")
    shutil.copytree(llama, root / "llama")
    tiny_models.write_data(root / "data")
    rows = (root / "data" / "records.jsonl").read_text().splitlines()
    (root / "data" / "records.jsonl").write_text("\n".join(rows[:8]) + "\n")
    (root / "data" / "validation.jsonl").write_text("\n".join(rows[8:]) + "\n")
    go(root / "llama", root / "data" / "records.jsonl", root / "run", resume=False)
    return root


def change_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda root: change_text(root / "data/records.jsonl", "yes", "no"), "training records"),
        (lambda root: change_byte(root / "data/0.png"), "training pictures, validation pictures"),
        (
            lambda root: change_text(root / "data/validation.jsonl", "r9", "r99"),
            "validation records",
        ),
        (lambda root: change_byte(root / "llama/model.safetensors"), "weights to start from"),
    ],
    ids=["records", "pictures", "validation", "weights"],
)
def test_a_run_goes_on_with_what_it_was_started_with_or_not_at_all(
    begun: Path, tmp_path: Path, change: Callable[[Path], None], what: str
) -> None:
    root = shutil.copytree(begun, tmp_path / "copy")
    config = root / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(begun), str(root)))
    before = (root / "run" / "run.json").read_bytes()
    go(root / "llama", root / "data" / "records.jsonl", root / "run")  # elsewhere, but the same
    assert (root / "run" / "run.json").read_bytes() != before  # one start more
    before = (root / "run" / "run.json").read_bytes()
    change(root)
    with pytest.raises(InputError, match=rf"was started with other {what}\. Put back"):
        go(root / "llama", root / "data" / "records.jsonl", root / "run", max_steps=3)
    assert (root / "run" / "run.json").read_bytes() == before


def test_changed_settings_are_told_and_every_start_is_remembered(
    begun: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(begun / "run", tmp_path / "run")
    data = begun / "data" / "records.jsonl"
    reporter = go(begun / "llama", data, run, max_steps=3, learning_rate=5e-4)
    assert "changed since this run was started: stage2.max_steps: 2 -> 3" in reporter.notes
    told = json.loads((run / "run.json").read_text())
    first, second = told["starts"]
    assert (first["step"], first["changed"]) == (0, [])
    assert (second["step"], second["pid"]) == (2, os.getpid())
    assert "stage2.learning_rate: 0.001 -> 0.0005" in second["changed"]


def test_a_run_of_an_earlier_version_says_nothing_of_its_inputs_and_goes_on(
    begun: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(begun / "run", tmp_path / "run")
    told = json.loads((run / "run.json").read_text())
    del told["inputs"], told["starts"]
    (run / "run.json").write_text(json.dumps(told))
    assert go(begun / "llama", begun / "data" / "records.jsonl", run, max_steps=3).done == [3]


def test_a_second_start_says_who_holds_the_folder(begun: Path, tmp_path: Path) -> None:
    data = begun / "data" / "records.jsonl"
    holder = f"process {os.getpid()} on {socket.gethostname()}, since 2"
    with (
        locked(tmp_path / "run"),
        pytest.raises(InputError, match=f"in use by another run \\({holder}"),
    ):
        go(begun / "llama", data, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    reporter = go(begun / "llama", data, tmp_path / "run", max_steps=1)
    expected = f"{tmp_path / 'run'} holds no checkpoint to go on from: the run starts"
    assert expected in reporter.notes


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot make the run folder"),
        locked(tmp_path / "file/run"),
    ):
        pass


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]"])
def test_a_damaged_run_json_is_one_line(begun: Path, tmp_path: Path, text: str) -> None:
    run = shutil.copytree(begun / "run", tmp_path / "run")
    (run / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        go(begun / "llama", begun / "data" / "records.jsonl", run)
