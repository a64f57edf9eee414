"""The documentation as a site: built without a warning, links checked, nothing fetched from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import biod2c
from biod2c_cli.app import COMMANDS

for needed in ("mkdocs", "material", "mkdocstrings"):
    pytest.importorskip(needed, reason="the site needs the extra 'docs'")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a link or an anchor that leads nowhere, or a page that no menu has, ends it."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_the_reference_has_every_command_and_what_python_gives(site: Path) -> None:
    commands = (site / "reference" / "commands.html").read_text("utf-8")
    for name in (*COMMANDS, "data import", "evaluate compare"):
        assert f"<code>biod2c {name}</code>" in commands
    python = (site / "reference" / "python.html").read_text("utf-8")
    for name in biod2c.__all__:
        assert name.startswith("_") or f'id="biod2c.{name}"' in python
    assert "n_best" in python  # signatures and arguments, not names alone


def test_what_pages_lead_to_is_part_of_it(site: Path) -> None:
    log = (site / "repository" / "recipes" / "tiny" / "LOG_BEFORE.html").read_text("utf-8")
    page = (site / "paper-to-code.html").read_text("utf-8")
    assert 'href="repository/recipes/tiny/LOG_BEFORE.html#pointing"' in page
    assert 'id="pointing"' in log
    notice = site / "repository" / "NOTICE"
    assert notice.read_bytes() == (REPOSITORY / "NOTICE").read_bytes()


def test_a_table_shows_a_bar_in_code_as_a_host_does(site: Path) -> None:
    assert "<code>--zero 0|2|3</code>" in (site / "commands" / "train.html").read_text("utf-8")


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//|<link[^>]+href=\"?https?:"
    )
    assert [page.name for page in pages if fetched.search(page.read_text("utf-8"))] == []
