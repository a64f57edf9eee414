"""The command line as a whole: what it imports, how each failure leaves it, ``--debug``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biod2c_cli.app import COMMANDS, app
from biod2c_core import errors
from biod2c_core.inference import ask as asking
from biod2c_core.inference.questions import Question

runner = CliRunner()
PICTURE = Path(__file__).resolve().parents[2] / "examples" / "chest_xray.jpg"
HEAVY = ("torch", "transformers", "peft", "timm", "open_clip", "torchvision", "accelerate")
IMPORTS = f"""
import sys
from biod2c_cli.app import COMMANDS, app
def run(*arguments, code):
    try:
        app(list(arguments))
    except SystemExit as exit:
        assert exit.code == code, (arguments, exit.code)
run("--help", code=0)
run("--version", code=0)
run("no-such-command", code=2)
for name in COMMANDS:
    run(name, "--help", code=0)
heavy = {{name.partition(".")[0] for name in sys.modules}} & {{"numpy", *{HEAVY!r}}}
assert not heavy, heavy
run("ask", "no-such-image.png", "is it?", code=2)
heavy = set(sys.modules) & set({HEAVY!r})
assert not heavy, heavy
print("light", file=sys.stderr)
"""


def test_help_and_bad_input_import_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.endswith("light\n")
    assert "Traceback" not in result.stderr


# Installed with transformers or beside it, and of no use to the embedded model.
UNUSED = (
    *("peft", "open_clip", "deepspeed", "datasets", "sklearn", "pandas", "matplotlib", "openai"),
    *("rich", "nltk", "pydicom", "nibabel", "onnxruntime", "cv2", "triton", "transformers.trainer"),
)
ANSWERED = f"""
import gc, sys
from biod2c_cli.app import app
searched = []  # for garbage, when torch was there, and not all that is made beside it
gc.callbacks.append(
    lambda *_: searched.append("torch" in sys.modules and "transformers.modeling_utils" not in sys.modules)
)
try:
    app(["ask", sys.argv[1], "What imaging modality is this?", "--device", "cpu"])
except SystemExit as exit:
    assert exit.code == 0, exit.code
unused = set(sys.modules) & set({UNUSED!r})
assert not unused, unused
assert searched and not any(searched), sum(searched)
assert gc.isenabled() and gc.get_freeze_count() > len(gc.get_objects())
"""


def test_an_answer_of_the_embedded_model_imports_nothing_that_it_does_not_use() -> None:
    """And no garbage is searched for while it does."""
    result = subprocess.run(
        [sys.executable, "-c", ANSWERED, PICTURE], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "x-ray\n"


def test_every_command_is_listed_with_its_line() -> None:
    text = " ".join(runner.invoke(app, ["--help"]).stdout.split())
    for name, line in COMMANDS.items():
        assert f"{name} {line}" in text


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("biod2c ")


def test_an_unknown_command_names_the_nearest() -> None:
    result = runner.invoke(app, ["trian"])
    assert result.exit_code == 2
    assert "No such command 'trian'. Did you mean 'train'?" in result.stderr
    assert result.stdout == ""


FAILURES = [
    (errors.InputError("bad", "Do better."), 2, "error: bad. Do better."),
    (errors.RecordError("a.jsonl", 3, "no JSON"), 2, "error: a.jsonl:3: no JSON"),
    (errors.MissingDependencyError("x", "train"), 2, "error: this needs the package 'x'"),
    (errors.PartialResultError("some failed"), 3, "error: some failed"),
    (errors.BudgetError("spent"), 4, "error: spent"),
    (errors.EndpointError("gone"), 5, "error: gone"),
    (errors.DivergenceError("nan"), 6, "error: nan"),
    (errors.TerminatedError("stopped"), 143, "error: stopped"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 1, "error: MemoryError: memory ran out. Free some or raise its limit"),
    (RuntimeError("can't start new thread"), 1, "error: MemoryError: can't start new thread. Free"),
    (ImportError("x.so: failed to map segment"), 1, "error: MemoryError: x.so: failed to map"),
    (PermissionError(13, "denied", "/x"), 1, "error: PermissionError: [Errno 13] denied: '/x'"),
    (ValueError("odd\nlines"), 1, "unexpected ValueError: odd lines. This is a bug; run again"),
]


@pytest.mark.parametrize(
    ("failure", "code", "line"), FAILURES, ids=[type(each[0]).__name__ for each in FAILURES]
)
def test_each_failure_is_one_line_and_its_code(
    failure: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(asking, "ask", fail)
    result = runner.invoke(app, ["ask", "image.png", "is it?"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1

    result = runner.invoke(app, ["--debug", "ask", "image.png", "is it?"])
    assert result.exit_code == code
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith(line)


FULL = Path("/dev/full")
ANSWER = """
from biod2c_cli.app import app
from biod2c_core.inference import ask as asking
asking.ask = lambda *_: [asking.Reply("is it?", "yes", 1.0, False, False, "tiny", 0.0, familiarity=1.0)]
app(["ask", "image.png", "is it?"])
"""


REJECTED = """
import typer
from biod2c_cli.app import app
from biod2c_core.inference import ask as asking
def ask(*_):
    print("yes")
    raise typer.Exit(3)
asking.ask = ask
app(["ask", "image.png", "is it?"])
"""


def answer_into(stdout: int, unbuffered: str, script: str = ANSWER) -> tuple[int, list[str]]:
    """Exit code and lines of stderr of an answer that is written to a file descriptor."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=600,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    return result.returncode, result.stderr.decode().splitlines()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_no_failure(unbuffered: str) -> None:
    """As in ``biod2c ask ... | head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    code, lines = answer_into(writer, unbuffered)
    os.close(writer)
    assert (code, len(lines)) == (0, 1)
    assert "no medical device" in lines[0]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
def test_an_exit_code_outlasts_its_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, lines = answer_into(writer, "", REJECTED)
    os.close(writer)
    assert (code, lines) == (3, [])


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("ask", 2)])
def test_a_closed_stdout_changes_no_exit_code(argument: str, code: int) -> None:
    script = "from biod2c_cli.app import main; main()"
    call = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", script, argument]
    result = subprocess.run(call, stderr=subprocess.PIPE, timeout=600)
    assert result.returncode == code
    assert b"Traceback" not in result.stderr


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line_and_code_1(unbuffered: str) -> None:
    with FULL.open("wb", buffering=0) as full:
        code, lines = answer_into(full.fileno(), unbuffered)
    assert (code, len(lines)) == (1, 2)
    assert "No space left on device" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "question", "traced"),
    [
        (["ask", "image.png", "is it?", "--debug"], "is it?", True),
        (["ask", "--debug", "image.png", "is it?"], "is it?", True),
        (["ask", "image.png", "--", "--debug"], "--debug", False),
    ],
)
def test_debug_stands_anywhere_but_behind_two_dashes(
    arguments: list[str], question: str, traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(image: object, questions: list[Question], *_: object) -> None:
        asked.append(questions[0].text)
        raise errors.InputError("bad")

    monkeypatch.setattr(asking, "ask", fail)
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert asked == [question]
    assert ("Traceback" in result.stderr) is traced
    assert runner.invoke(app, ["ask", "image.png", "is it?"]).stderr == "error: bad\n"  # not sticky


ENDED = """
import os, signal, sys, tempfile, time
from biod2c_cli import app as module

def command():
    with tempfile.NamedTemporaryFile(dir=sys.argv[1]):
        ready, begin = os.pipe()
        worker = os.fork()
        if not worker:
            os.write(begin, b"1")
            time.sleep(60)
        os.read(ready, 1)
        os.kill(worker, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 143
        assert os.listdir(sys.argv[1])
        os.kill(os.getpid(), int(sys.argv[2]))
        time.sleep(60)

module.app = command
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
module.main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_a_command_has_begun_is_cleaned_when_it_is_asked_to_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    """By every command alike; its own workers end as they are, without cleaning twice."""
    command = [sys.executable, "-c", ENDED, str(tmp_path), str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert abs(done.returncode) in ({143} if number == signal.SIGTERM else {130, 2}), done.stderr
    assert list(tmp_path.iterdir()) == []
