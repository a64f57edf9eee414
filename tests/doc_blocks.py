"""The commands that the documentation shows, and a shell of this process to type them in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biod2c_cli.app import app

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
        *(
            page
            for part in ("docs", "recipes", "integrations")
            for page in (REPOSITORY / part).rglob("*.md")
        ),
    ]
)
TYPED = ("bash", "console")
LEFT_OUT = "..."  # a line of a page that stands for any lines of the output

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
_SECONDS = re.compile(r'("seconds": )[\d.]+')


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    line: int
    language: str
    text: str
    printed: str | None  # the block right below it that names no language: what it prints


@dataclass(frozen=True)
class Command:
    """What a reader types, and what the page says is printed."""

    page: str
    line: int
    text: str
    said: str | None
    console: bool  # ``said`` has stderr too

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def name_of(page: Path) -> str:
    """A page as the tests name it."""
    return page.relative_to(REPOSITORY).as_posix()


def fences(page: Path) -> list[Fence]:
    """The fenced blocks of a page, those that only say what another prints left out."""
    text = page.read_text("utf-8")
    found = list(_FENCE.finditer(text))
    blocks = []
    for this, after in zip(found, [*found[1:], None], strict=False):
        if not this[1] and any(this.start() == before.end() for before in found):
            continue
        below = after is not None and after.start() == this.end() and not after[1]
        printed = after[2] if after is not None and below else None
        blocks.append(Fence(text.count("\n", 0, this.start()) + 1, this[1], this[2], printed))
    return blocks


def commands(page: Path) -> list[Command]:
    """Every command of a page's blocks, in the page's order."""
    return [
        command
        for fence in fences(page)
        if fence.language in TYPED
        for command in (_typed if fence.language == "console" else _script)(name_of(page), fence)
    ]


def _typed(page: str, fence: Fence) -> Iterator[Command]:
    """``$ `` stands before what is typed, below it is what is printed."""
    head, *parts = re.split(r"^\$ ", fence.text, flags=re.MULTILINE)
    assert not head, f"{page}:{fence.line}: a block of the console begins with '$ '"
    for part in parts:
        text, _, said = part.partition("\n")
        yield Command(page, fence.line, text, said, console=True)


def _script(page: str, fence: Fence) -> Iterator[Command]:
    """A command a line or between ``&&``; the last one prints what stands below the block."""
    lines = fence.text.replace("\\\n", " ").splitlines()
    texts = [
        " ".join(part.split())
        for line in lines
        for part in re.sub(r"(^|\s)#.*", "", line).split(" && ")
        if part.strip()
    ]
    for number, text in enumerate(texts, 1):
        said = fence.printed if number == len(texts) else None
        yield Command(page, fence.line, text, said, console=False)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed: to stdout, to stderr, and to a terminal."""

    code: int
    stdout: str
    stderr: str
    shown: str


@dataclass(frozen=True)
class Shell:
    """Types commands of a page in a folder, ``biod2c`` without a process of its own.

    Attributes:
        monkeypatch: Takes back what ``export`` sets.
        words: What stands for the page's placeholders, word for word or in ``NAME=word``.
        more: Arguments added to the commands that begin so (the first that fits), to make less work of them.
    """

    monkeypatch: pytest.MonkeyPatch
    words: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)

    def type(self, text: str) -> Ended:
        """Run one command."""
        added = next((more for start, more in self.more.items() if text.startswith(start)), "")
        words = [each for word in shlex.split(f"{text} {added}") for each in self._expanded(word)]
        with self.monkeypatch.context() as for_this:
            while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
                for_this.setenv(assignment[1], assignment[2])
                words.pop(0)
            return self._run(*words)

    def _expanded(self, word: str) -> list[str]:
        for stands, given in self.words.items():
            if word == stands:
                return shlex.split(given)
            if word.endswith(f"={stands}"):
                word = word.removesuffix(stands) + given
        return [str(path) for path in sorted(Path().glob(word))] if "*" in word else [word]

    def _run(self, program: str, *arguments: str) -> Ended:
        if program == "export":
            for assignment in arguments:
                self.monkeypatch.setenv(*assignment.split("=", 1))
            return Ended(0, "", "", "")
        if program == "cat":
            text = "".join(Path(name).read_text("utf-8") for name in arguments)
            return Ended(0, text, "", text)
        assert program == "biod2c", f"no test can run {program}: say why in tests/doc_pages.py"
        result = CliRunner().invoke(app, arguments)
        return Ended(result.exit_code, result.stdout, result.stderr, result.output)


def assert_printed(command: Command, ended: Ended, code: int = 0) -> None:
    """The command ended as its page says, and printed what stands there.

    An ``error:`` that the page shows is expected; ``code`` is one that it explains in other words.
    """
    refused = command.said is not None and re.search("^error: ", command.said, re.MULTILINE)
    fits = ended.code in (1, 2, 3) if refused else ended.code == code
    assert fits, f"{command} ended with {ended.code}:\n{ended.shown}"
    if command.said is None:
        return
    pieces = re.split(r"^\.\.\.\n", _comparable(command.said), flags=re.MULTILINE)
    pattern = "(?:.*\n)*".join(map(re.escape, pieces))
    # what comes first on a terminal hangs on when either is flushed
    ways = (ended.stdout + ended.stderr, ended.stderr + ended.stdout, ended.shown)
    shown = [_comparable(way) for way in (ways if command.console else [ended.stdout])]
    fits = any(re.fullmatch(pattern, way) for way in shown)
    assert fits, f"{command} prints:\n{ended.shown}\nand not:\n{command.said}"


def _comparable(text: str) -> str:
    """Without times, and without the blanks at the ends of lines that nobody sees."""
    return re.sub(r" +$", "", _SECONDS.sub(r"\g<1>0", text), flags=re.MULTILINE)
