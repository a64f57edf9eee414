"""The shell completes names, and ``biod2c doctor`` says what is here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import biod2c_core
from biod2c_cli.app import app


def completed(line: str) -> list[str]:
    words = line.split(" ")
    environment = {
        "_BIOD2C_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(app, [], env=environment, prog_name="biod2c")
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("biod2c ev", ["evaluate"]),
        ("biod2c train --preset tin", ["tiny"]),
        ("biod2c presets show pa", ["paper", "paper-zero3"]),
        ("biod2c evaluate x.jsonl --profile multi", ["multimedeval"]),
        ("biod2c evaluate x.jsonl --split va", ["validation"]),
        ("biod2c evaluate vqa", ["vqa-med", "vqa-rad"]),
        ("biod2c data stats x --format sla", ["slake"]),
        ("biod2c ask a.png what -m biod2c-t", ["biod2c-tiny"]),
        ("biod2c ask a.png what --device cu", ["cuda"]),
    ],
)
def test_names_are_completed(
    line: str, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed(line) == wanted


def test_completion_can_be_installed() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout


def test_doctor_says_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOD2C_CACHE", "/somewhere")
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["versions"]["biod2c"] == biod2c_core.__version__
    assert found["versions"]["torch"] == torch.__version__
    assert found["folders"]["features in training"] == os.path.join("/somewhere", "features")  # noqa: PTH118
    assert set(found["extras"]) >= {"train", "medical", "serve"}
    assert all(value == "installed" or "lacks" in value for value in found["extras"].values())
    assert found["runs"]["ask, attn-map, serve, evaluate"].startswith(("cpu", "cuda", "mps"))
    plain = CliRunner().invoke(app, ["doctor"]).stdout
    lines = [line.split(maxsplit=1) for line in plain.splitlines()]
    assert ["torch", torch.__version__] in lines
    assert ["biod2c", biod2c_core.__version__] in lines
    assert "a-secret" not in plain + result.stdout


def test_an_extra_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from biod2c_cli.commands import doctor

    known = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda n: None if n == "nibabel" else known(n))
    extras = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["extras"]
    assert "nibabel" in extras["medical"]
    assert extras["medical"].startswith("lacks ")
