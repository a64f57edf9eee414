"""The container files copy what exists, run what exists, as nobody in particular, from pinned versions.

No image is built: that needs a builder and a registry.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from biod2c_cli.app import app
from biod2c_cli.commands.serve import serve

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = REPOSITORY / "containers" / "Dockerfile"
SPACE = REPOSITORY / "containers" / "space" / "Dockerfile"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
FILES = pytest.mark.parametrize("file", [IMAGE, SPACE], ids=["image", "space"])


def instructions(file: Path) -> list[tuple[str, str]]:
    """Name and arguments of each instruction, lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", file.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def arguments(file: Path, name: str) -> list[str]:
    return [text for found, text in instructions(file) if found == name]


def copied() -> list[str]:
    return [name for text in arguments(IMAGE, "COPY") for name in shlex.split(text)[:-1]]


@FILES
def test_it_is_built_from_one_python_that_the_package_supports(file: Path) -> None:
    bases = [text.split()[0] for text in arguments(file, "FROM")]
    (base,) = set(bases) - {"base"}
    found = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert found is not None
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert least is not None
    assert int(found[1]) >= int(least[1])


@FILES
def test_it_installs_pinned_versions_and_extras_that_exist(file: Path) -> None:
    (own,) = [text for text in arguments(file, "RUN") if "-c constraints.txt" in text]
    extras = re.findall(r"\[([\w,]+)\]", own)[0].split(",")
    assert "serve" in extras
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    for text in arguments(file, "RUN"):
        assert "http" not in text
        assert ("pip install" in text) == ("constraints.txt" in text)


def test_what_the_image_copies_is_there_and_is_all_that_a_wheel_is_made_of() -> None:
    assert all((REPOSITORY / name).exists() for name in copied())
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert {name for name in copied() if name.startswith("biod2c")} == packages
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]} <= set(copied())
    kept = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in kept if line.startswith("!")} == set(copied())
    pinned = (REPOSITORY / "constraints.txt").read_text("utf-8")
    assert re.search(r"^torch==", pinned, re.MULTILINE)


@FILES
def test_it_serves_as_nobody_in_particular_without_the_hub(file: Path) -> None:
    steps = instructions(file)
    user, start = (
        next(n for n, step in enumerate(steps) if step[0] == name) for name in ("USER", "CMD")
    )
    assert steps[user][1] not in ("root", "0")
    assert user < start
    assert not any(name in ("RUN", "COPY") for name, _ in steps[user:start])
    environment = " ".join(text for name, text in steps if name == "ENV")
    assert "HF_HUB_OFFLINE=1" in environment
    entry = json.loads((arguments(file, "ENTRYPOINT") or ["[]"])[0])
    program, command, *options = [*entry, *json.loads(arguments(file, "CMD")[0])]
    assert program in PROJECT["scripts"]
    assert command == serve.__name__
    group = get_command(app)
    parameters = group.get_command(None, command).make_context(command, options).params  # type: ignore[attr-defined, arg-type]
    assert parameters["host"] == "0.0.0.0"
    (port,) = arguments(file, "EXPOSE")
    assert str(parameters["port"]) == port
    (health,) = arguments(file, "HEALTHCHECK")
    asked = json.loads(health.partition("CMD ")[2])
    assert f"http://127.0.0.1:{port}/health" in asked[-1]
    compile(asked[-1], "HEALTHCHECK", "exec")


def test_the_space_says_what_it_is() -> None:
    _, front, _ = (SPACE.parent / "README.md").read_text("utf-8").split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["sdk"] == "docker"
    assert [str(told["app_port"])] == arguments(SPACE, "EXPOSE")
    assert told["license"] == PROJECT["license"].lower()
    assert len(told["short_description"]) <= 60
