"""What the site has beyond ``docs/``: the files that its pages link to, and the reference.

The pages are written to be read on a code host, where ``../SECURITY.md`` is a link like any other. Here
such a file joins the site under ``repository/``, a Markdown file as a page and any other as it is, and the
links are turned to where things lie. A link to nothing is left as it is, for mkdocs to complain about.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

import biod2c
from biod2c_cli.app import app

OUTSIDE = "repository/"  # of the site: what does not come from docs/
SEAMS = (
    "biod2c_core.data.formats.register_format",
    "biod2c_core.evaluation.score.profiles.register_profile",
    "biod2c_core.model.beyond.extension.register_extension",
    "biod2c_core.model.losses.register_loss",
)

_REPOSITORY = Path(__file__).resolve().parent.parent
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
_CODE_IN_CELL = re.compile(
    r"`[^`\n]*\\\|[^`\n]*`"
)  # where Python-Markdown would keep the backslash
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#\s])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, and every file of the repository that a page leads to."""
    for name, text in (("commands", commands()), ("python", python())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        uri = waiting.pop()
        if not source_of(uri).exists():
            continue  # generated
        for target in links_of(uri):
            found = site_uri(target)
            if found and files.get_file_from_path(found) is None:
                outside = File.generated(config, found, abs_src_path=str(source_of(found)))
                files.append(outside)
                waiting += [found] if outside.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave ``docs/``, or come from outside it, to where the site has the file."""
    uri = page.file.src_uri
    if not source_of(uri).exists():
        return markdown

    def rendered(text: str) -> str:
        text = _CODE_IN_CELL.sub(lambda found: found[0].replace("\\|", "|"), text)
        return _LINK.sub(turned, text)

    def turned(found: re.Match[str]) -> str:
        target = site_uri(source_of(uri).parent / found[1])
        return relative(target, uri) if target else found[1]

    parts = _FENCED.split(markdown)
    return "".join(part if n % 2 else rendered(part) for n, part in enumerate(parts))


def source_of(uri: str) -> Path:
    """The file of the repository behind a page or file of the site."""
    if uri.startswith(OUTSIDE):
        return _REPOSITORY / uri.removeprefix(OUTSIDE)
    return _REPOSITORY / "docs" / uri


def site_uri(file: Path) -> str | None:
    """Where the site has a file of the repository; None for what is no file of it."""
    file = file.resolve()
    if not file.is_file() or not file.is_relative_to(_REPOSITORY):
        return None
    place = file.relative_to(_REPOSITORY).as_posix()
    return place.removeprefix("docs/") if place.startswith("docs/") else OUTSIDE + place


def links_of(uri: str) -> list[Path]:
    """What a page links to, relative links alone, code left out."""
    text = "".join(_FENCED.split(source_of(uri).read_text("utf-8"))[::2])
    return [source_of(uri).parent / found[1] for found in _LINK.finditer(text)]


def relative(target: str, uri: str) -> str:
    """``target`` as seen from the page ``uri``, both from the root of the site."""
    folder = PurePosixPath(uri).parent.parts
    parts = PurePosixPath(target).parts
    shared = 0
    while shared < min(len(folder), len(parts) - 1) and folder[shared] == parts[shared]:
        shared += 1
    return "/".join([".."] * (len(folder) - shared) + list(parts[shared:]))


def commands() -> str:
    """The help of every command, from the app itself."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    text = get_docs_for_click(obj=root, ctx=typer.Context(root), name="biod2c")
    return text.replace("# `biod2c`", "# Commands", 1)


def python() -> str:
    """What ``import biod2c`` gives, and the functions that plug-ins call, from their docstrings."""
    names = [f"biod2c.{name}" for name in sorted(biod2c.__all__) if not name.startswith("_")]
    lines = ["# Python", "", "What `import biod2c` gives ([how to use it](../python.md)).", ""]
    lines += [f"::: {name}\n" for name in names]
    lines += ["## To plug in your own", "", "See [extending](../extending.md).", ""]
    lines += [f"::: {name}\n    options: {{heading_level: 3}}\n" for name in SEAMS]
    return "\n".join(lines)
