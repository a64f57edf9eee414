"""``biod2c data queue`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from biod2c_cli import app
from biod2c_core.data.records import iter_records


@pytest.fixture
def records(tmp_path: Path) -> Path:
    rows = [
        {"id": "a", "image": "1.png", "question": "What is it?", "answer": "A cyst"}
        | {"caption": "Abdominal CT with a renal cyst and ascites."},
        {"id": "b", "image": "2.png", "question": "Describe the image.", "answer": ""}
        | {"caption": "Ultrasound of the kidney showing ascites beside a renal stone."},
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(records: Path, *arguments: str) -> Any:
    output = records.with_name("out.jsonl")
    command = ["data", "queue", str(records), "-o", str(output), *arguments]
    return CliRunner().invoke(app.app, command)


def queues(records: Path) -> dict[str, tuple[str, ...]]:
    return {r.id: r.queue for r in iter_records(records.with_name("out.jsonl"))}


def test_queues_from_captions_alone(records: Path) -> None:
    result = run(records, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["records"] == 2
    built = queues(records)
    assert built["a"][:3] == ("Abdominal CT", "renal cyst", "ascites")
    assert built["b"][0] == "Ultrasound of the kidney"


def test_queues_are_topped_up_from_files_and_from_all_captions(records: Path) -> None:
    knowledge = records.with_name("k.txt")
    knowledge.write_text("renal cyst of Bosniak class II\nhip fracture\n")
    result = run(records, "--knowledge", str(knowledge), "--knowledge", "captions", "--k", "9")
    assert result.exit_code == 0, result.stderr
    built = queues(records)
    assert "renal cyst of Bosniak class II" in built["a"]
    assert "Ultrasound of the kidney" in built["a"]
    assert "hip fracture" not in built["a"] + built["b"]
    assert all("a cyst" not in text.lower() for text in built["a"])


def test_two_runs_write_the_same_bytes(records: Path) -> None:
    written = []
    for _ in range(2):
        assert run(records, "--knowledge", "captions").exit_code == 0
        written.append(records.with_name("out.jsonl").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--knowledge", "absent.txt"], "cannot read absent.txt"),
        (["--k", "0"], "a queue of 0 texts"),
        (["--encoder", "absent"], "an encoder without a knowledge base"),
        (["--knowledge", "captions", "--encoder", "absent"], "no folder absent"),
    ],
)
def test_wrong_options_are_one_line(records: Path, arguments: list[str], message: str) -> None:
    result = run(records, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not records.with_name("out.jsonl").exists()
