"""The worked examples of ``docs/extending.md``: their diffs, and the new files that these add."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def diff_of(section: str) -> dict[str, list[list[str]]]:
    """The lines of each hunk of a section's diff, by file."""
    page = (REPOSITORY / "docs" / "extending.md").read_text("utf-8")
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    diff = re.search(r"```diff\n(.*?)```", text, re.DOTALL)
    assert diff, f"{section} shows no diff"
    hunks: dict[str, list[list[str]]] = {}
    for line in diff[1].splitlines():
        if line.startswith("+++ b/"):
            file = hunks.setdefault(line.removeprefix("+++ b/"), [])
        elif line == "@@":
            file.append([])
        elif not line.startswith("--- "):
            file[-1].append(line)
    return hunks


def assert_fits(section: str) -> None:
    """Every line that a diff keeps or takes away stands in its file as shown, and new files are new."""
    for name, hunks in diff_of(section).items():
        kept = [[line[1:] for line in hunk if line[:1] != "+"] for hunk in hunks]
        if not any(kept):
            assert not (REPOSITORY / name).exists()
            continue
        text = (REPOSITORY / name).read_text("utf-8")
        for lines in kept:
            assert "\n".join(lines) in text, f"{name} does not hold:\n" + "\n".join(lines)


def new_module(section: str, **globals_: object) -> types.ModuleType:
    """The new file of a section, executed as a module from outside the package."""
    for name, hunks in diff_of(section).items():
        if all(line[:1] == "+" for hunk in hunks for line in hunk):
            module = types.ModuleType(Path(name).stem)
            module.__dict__.update(globals_)
            sys.modules[module.__name__] = module
            code = "\n".join(line[1:] for hunk in hunks for line in hunk)
            exec(compile(code, name, "exec"), module.__dict__)
            return module
    raise AssertionError(f"{section} adds no file")
