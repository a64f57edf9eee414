"""The documentation names only what exists (functions, tests, commands, files), in short lines."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import biod2c_core
from biod2c_core.config import switches
from biod2c_core.model.checkpoints.folder import EMBEDDED, load_model_config
from biod2c_core.model.modeling import BioD2CForConditionalGeneration

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
    ]
)
TEXTS = sorted(
    [
        *PAGES,
        REPOSITORY / "CHANGELOG.md",
        *(REPOSITORY / "recipes").rglob("*.md"),
        EMBEDDED / "README.md",
    ]
)
LONGEST_LINE = 120


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def resolve(dotted: str) -> object:
    """Import the longest module prefix and walk the rest as attributes."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_names_exist(page: Path) -> None:
    for dotted in set(re.findall(r"`(biod2c(?:_core|_cli)?(?:\.\w+)+)`", text_of(page))):
        assert resolve(dotted) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_exist(page: Path) -> None:
    pattern = (
        r"`((?:tests|docs|examples|recipes|benchmarks|biod2c|biod2c_core|biod2c_cli)/[\w./-]+)`"
    )
    for name in set(re.findall(pattern, text_of(page))):
        assert (REPOSITORY / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(page)):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_lines_are_short(page: Path) -> None:
    """At most 120 characters, but for tables, code, and a single word that cannot be broken."""
    assert list(overlong_lines(text_of(page))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("word " * 24, []),
        ("a\n" + "word " * 25, [2]),
        ("| " + "word " * 30, []),
        ("```\n" + "word " * 30 + "\n```\n" + "word " * 30, [4]),
        ("- [name](https://example.org/" + "a" * 120 + ")", []),
        ("    " + "word " * 30, [1]),
    ],
)
def test_only_lines_that_can_be_broken_count(text: str, found: list[int]) -> None:
    assert list(overlong_lines(text)) == found


def overlong_lines(text: str) -> Iterator[int]:
    """Numbers of the lines that are too long and could be broken at a blank."""
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif (
            not in_code and not line.lstrip().startswith("|") and len(line.rstrip()) > LONGEST_LINE
        ):
            words = line.removeprefix("- ").split()
            if len(words) > 1:
                yield number


def test_every_equation_is_mapped() -> None:
    page = text_of(REPOSITORY / "docs" / "paper-to-code.md")
    assert {f"Eq. ({number})" for number in range(1, 6)} <= set(re.findall(r"Eq\. \(\d\)", page))
    from biod2c_core.model import equations

    for name, value in vars(equations).items():
        if callable(value) and getattr(value, "__module__", "") == equations.__name__:
            assert f"equations.{name}`" in page, f"{name} is missing in paper-to-code.md"


def test_the_table_of_switches_is_what_is_declared() -> None:
    """Each switch beyond the paper has its row, and costs what the embedded model pays for it."""
    page = text_of(REPOSITORY / "docs" / "paper-to-code.md")
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in page.partition("| switch | the field's name |")[2].splitlines()[2:]
        if line.startswith("| `")
    ]
    beyond = {f"`{name}`": switch for name, switch in switches().items() if switch.beyond}
    assert [row[0] for row in rows] == list(beyond)
    whole = embedded_parameters()
    for name, term, equation, checkpoint, gains, costs in rows:
        assert (term, checkpoint) == (beyond[name].beyond, beyond[name].checkpoint)
        assert equation
        assert gains
        saved = whole - embedded_parameters(**{name.strip("`"): 0})
        assert costs.startswith(f"{saved:,} parameters")


def embedded_parameters(**changes: Any) -> int:
    config = load_model_config(EMBEDDED)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.device("meta"):
        return sum(p.numel() for p in BioD2CForConditionalGeneration(config).parameters())


def test_the_citation_names_this_version() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == biod2c_core.__version__
    assert cited["license"] == "Apache-2.0"
    assert cited["preferred-citation"]["title"] in " ".join(
        text_of(REPOSITORY / "README.md").split()
    )
