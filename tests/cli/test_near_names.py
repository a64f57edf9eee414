"""What is nearly right is answered with what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biod2c_cli.app import app

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample" / "questions.jsonl"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("filter-images imgs", "Did you mean 'filter-images run imgs'?"),
        ("filter-images fitt", "Did you mean 'fit'?"),
        ("data statz x", "Did you mean 'stats'?"),
        (
            "data xyz",
            "Use one of: import, validate, stats, split, mix, queue, scrub-text, "
            "shuffle-choices, export-vlmevalkit.",
        ),
        ("evaluate vqa-rda -o run", "no data at vqa-rda. Did you mean 'vqa-rad'?"),
        ("evaluate nothing.jsonl -o run", "no data at nothing.jsonl. Give a JSONL file"),
    ],
)
def test_the_nearest_name_is_suggested(line: str, said: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_format_that_is_misspelt(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "stats", str(tmp_path), "--format", "slak"])
    assert result.exit_code == 2
    assert "unknown format 'slak'." in result.stderr
    assert "image-folder. Did you mean 'slake'?" in result.stderr


def test_a_split_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    line = ["evaluate", str(SAMPLE), "--split", "tset", "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 2
    assert "Splits there: test, train, validation. Did you mean 'test'?" in result.stderr


@pytest.mark.parametrize("command", ["evaluate {} -o run", "train --data {} -o run -m biod2c-tiny"])
def test_a_folder_of_files_with_other_names_says_which_it_holds(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("captions", "questions"):
        row = {"id": "1", "image": "a.png", "question": "Is it?", "answer": "yes", "split": "test"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")
    result = CliRunner().invoke(app, command.format(tmp_path).split())
    assert result.exit_code == 2
    said = (
        f"it holds captions.jsonl, questions.jsonl. Name one of them, such as {tmp_path}/captions"
    )
    assert said in result.stderr
