"""What reaches the terminal is text: nothing of it is markup or obeyed, and nobody has to read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biod2c_cli import app, console
from biod2c_cli.training_progress import TrainingProgress

MARKUP = ("[/b]", "CT [contrast]", "[red]x[/red]", ":smile:", "[link=http://x]y[/link]", "\\[a]")
OBEYED = "\x1b]0;title\x07\x9b31m\x7f\r\u202egnp\u2066\ud800"
SHOWN = r"\x1b]0;title\x07\x9b31m\x7f\r\u202egnp\u2066\ud800"


@pytest.mark.parametrize("text", MARKUP)
def test_a_table_shows_brackets_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(f"title {text}", [f"column {text}"], [[f"cell {text}"]])
    shown = capsys.readouterr().out
    assert all(f"{place} {text}" in shown for place in ("title", "column", "cell"))


def test_control_characters_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(OBEYED, [OBEYED], [[OBEYED]])
    console.emit(OBEYED)
    console.note(OBEYED)
    shown = capsys.readouterr()
    assert shown.out.count(SHOWN) == 4
    assert shown.err == f"{SHOWN}\n"
    console.emit("a\tb\nc é 肺")
    assert capsys.readouterr().out == "a\tb\nc é 肺\n"


def test_json_says_the_same_without_being_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit_json({"a": OBEYED, "b": "é\n"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": OBEYED, "b": "é\n"}
    assert console.visible(shown) == shown


def records(folder: Path) -> Path:
    path = folder / "r.jsonl"
    row = {"id": "1", "image": "a.png", "question": "q?", "answer": "yes", "source": "x[/b]"}
    path.write_text(json.dumps(row | {"tags": {"modality": "CT [contrast]", "organ": "\x1b[31m"}}))
    return path


def test_data_of_a_stranger_is_printed_as_text(tmp_path: Path) -> None:
    result = CliRunner().invoke(app.app, ["data", "stats", str(records(tmp_path))])
    assert result.exit_code == 0, result.output
    assert "CT [contrast]" in result.stdout
    assert r"\x1b[31m" in result.stdout


def test_a_reader_that_has_gone_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(BrokenPipeError):
            console.print_table("t", ["c"], [["x" * 100_000]])
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "| true"])
def test_closed_files_are_no_failure(tmp_path: Path, closed: str) -> None:
    command = f"'{sys.executable}' -m biod2c_cli data stats '{records(tmp_path)}' {closed}"
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}} >'{tmp_path}/code'"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (tmp_path / "code").read_text() == "0\n"
    assert done.stderr == ""


def test_no_bars_of_libraries_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS")
    for name in names:
        monkeypatch.setenv(name, "")  # put back afterwards, whatever is set here
        monkeypatch.delenv(name)
    CliRunner().invoke(app.app, ["presets", "list"])
    assert [os.environ.get(name) for name in names] == ["1", "1"]


def test_training_says_a_line_now_and_then_as_all_progress_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingProgress() as reporter:
        reporter.note(OBEYED)
        reporter.start(4, 0)
        reporter.step(1, {"loss_nll": 2.5})  # too soon for a line
        monkeypatch.setattr(console, "LOG_EVERY", -1.0)
        reporter.step(2, {"loss_nll": 1.5})
    assert capsys.readouterr().err == f"{SHOWN}\n2/4 training loss_nll 1.5\n"
    monkeypatch.setattr(sys, "stderr", None)  # closed by the caller
    with TrainingProgress() as reporter:
        reporter.note("nobody reads it")
