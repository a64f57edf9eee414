"""``biod2c serve`` as a process: it says where, answers, and ends when told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from doc_blocks import REPOSITORY, commands
from typer.testing import CliRunner

from biod2c_cli.app import app


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_it_serves_until_told_to_stop(checkpoint: Path) -> None:
    line = [sys.executable, "-m", "biod2c_cli", "serve", "--port", "0", "-m", str(checkpoint)]
    process = subprocess.Popen(
        [*line, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    (shown,) = commands(REPOSITORY / "docs" / "commands" / "serve.md")
    assert shown.text == "biod2c serve --port 8000"
    assert shown.said is not None
    try:
        said = process.stderr.readline() + process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert url is not None
        assert said == shown.said.replace("http://127.0.0.1:8000/", url[0])
        with urllib.request.urlopen(f"{url[0]}health", timeout=120) as reply:
            assert json.load(reply)["status"] == "ok"
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=120)
    assert rest[0] == ""
    assert "Traceback" not in rest[1]


def test_what_cannot_be_served_is_refused() -> None:
    runner = CliRunner()
    for arguments, message in (
        (["--host", "0.0.0.0"], "there is no API key"),
        (["--max-queue", "0"], "the limit queue is 0"),
        (["--host", "203.0.113.7", "--api-key", "k"], "cannot listen at 203.0.113.7"),
    ):
        result = runner.invoke(app, ["serve", *arguments])
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert "Traceback" not in result.stderr
