"""Every command that a page of the documentation shows is run and compared, or listed with why it is not."""

from __future__ import annotations

import re
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from doc_blocks import (
    PAGES,
    REPOSITORY,
    Command,
    Shell,
    assert_printed,
    commands,
    fences,
    name_of,
)
from doc_pages import ELSEWHERE, Page, Place, reason_not_run
from doc_pages import PAGES as KNOWN
from transformers.utils import logging as transformers_logging
from typer.main import get_command

from biod2c_cli import console
from biod2c_cli.app import app
from biod2c_cli.commands.evaluate import DEFAULT_COMMAND

COMMANDS = [command for page in PAGES for command in commands(page)]
RUN = [each for each in COMMANDS if reason_not_run(each.page, each.text) is None]
NOT_RUN = [each for each in COMMANDS if reason_not_run(each.page, each.text) is not None]
PROGRAM = re.compile(r"^(\$ |biod2c |python3? |pip |export |torchrun |srun )", re.MULTILINE)


def by_page() -> list[Any]:
    """The pages with commands that run here."""
    names = sorted({each.page for each in RUN})
    return [
        pytest.param(
            name,
            marks=[
                *([pytest.mark.real_data] if KNOWN.get(name, Page()).real_data else []),
                *([pytest.mark.slow] if name == "docs/quick-start.md" else []),
            ],
        )
        for name in names
    ]


@pytest.mark.parametrize("name", by_page())
def test_the_commands_of_a_page_do_what_it_says(
    name: str,
    checkpoint: Path,
    llama: Path,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = KNOWN.get(name, Page())
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: False
    )  # as where the pages were written
    transformers_logging.disable_progress_bar()  # as the command line does where it begins
    monkeypatch.setattr(console, "LOG_EVERY", float("inf"))  # however slow this machine is
    with ExitStack() as stack:
        place = Place(tmp_path, checkpoint, llama, data_root, stack, monkeypatch)
        shell = Shell(monkeypatch, page.prepare(place), page.more)
        for command in RUN:
            if command.page == name:
                code = page.codes.get(command.text, 0)
                assert_printed(command, shell.type(command.text), code)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_typed_or_says_what_it_is(page: Path) -> None:
    for fence in fences(page):
        place = f"{name_of(page)}:{fence.line}"
        assert fence.language, f"{place}: bash, console, or what else?"
        if fence.language in ("text", "json", "yaml"):
            assert not PROGRAM.search(fence.text), f"{place} is for 'bash' or 'console'"
    text = page.read_text("utf-8")
    assert text.count("```") % 2 == 0
    assert not re.search(r"^ +```(bash|console)", text, re.MULTILINE), "a block begins its line"


def test_nothing_is_listed_for_a_command_that_is_no_longer_there() -> None:
    assert sorted(KNOWN) == [name for name in sorted(KNOWN) if name in {e.page for e in COMMANDS}]
    for name, page in KNOWN.items():
        texts = [each.text for each in COMMANDS if each.page == name]
        for start in (*page.not_run, *page.more, *page.codes):
            assert any(text.startswith(start) for text in texts), f"{name}: {start}"


@pytest.mark.parametrize("command", NOT_RUN, ids=str)
def test_what_is_not_run_could_be(command: Command) -> None:
    """Its program is there and has the options; a test that is said to run it is there too."""
    reason = reason_not_run(command.page, command.text) or ""
    if reason.startswith(ELSEWHERE):
        assert (REPOSITORY / reason.removeprefix(ELSEWHERE)).is_file()
    words = shlex.split(re.sub(r"^\w+=\S* ", "", command.text))
    if "biod2c_cli" in words:
        words = ["biod2c", *words[words.index("biod2c_cli") + 1 :]]
    if "biod2c" in words and words[:2] != ["docker", "build"]:
        assert_options_exist(words[words.index("biod2c") + 1 :])
    for word in words[:2]:
        if word.endswith((".py", ".sh")) and "/" in word:
            script = (REPOSITORY / word).read_text("utf-8")
            for option in re.findall(r" (--[\w-]+)", command.text):
                assert f'"{option}"' in script, f"{word} has no {option}"


def assert_options_exist(words: list[str]) -> None:
    command: Any = get_command(app)
    context = typer.Context(command)
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0)) or command.get_command(
            context, DEFAULT_COMMAND
        )
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    given = {
        word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)
    }
    assert given <= known, f"{command.name} has no {given - known}"
