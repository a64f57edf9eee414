"""The rules of the house, checked from the syntax trees: imports point down, the core knows no CLI."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LAYERS = [
    {
        "errors",
        "config",
        "atomic",
        "append_log",
        "collector",
        "contents",
        "device",
        "foreign",
        "locks",
        "pages",
        "torchvision_compat",
        "workers",
        "presets",
    },
    {"llm_api", "ops"},
    {"data", "model", "testing"},
    {"curation", "training", "evaluation", "inference"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
LIBRARY_FILES = sorted((REPOSITORY / "biod2c").rglob("*.py"))
CORE_FILES = sorted((REPOSITORY / "biod2c_core").rglob("*.py"))
COMMAND_FILES = sorted((REPOSITORY / "biod2c_cli").rglob("*.py"))


def imported_modules(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def place(module: str) -> str:
    """``biod2c_core.data.records`` -> ``data``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_core_imports_point_down(path: Path) -> None:
    own = path.relative_to(REPOSITORY / "biod2c_core").parts[0].removesuffix(".py")
    for module in imported_modules(path):
        outside = ("biod2c", "biod2c_cli", "typer", "rich")
        assert module.split(".")[0] not in outside, f"{path} imports {module}"
        target = place(module) if module.startswith("biod2c_core.") else ""
        if own == "__init__" or target not in RANK or target == own:
            continue
        same_base = RANK[own] == RANK[target] == 0
        assert RANK[target] < RANK[own] or same_base, f"{path} ({own}) must not import {module}"


@pytest.mark.parametrize("path", COMMAND_FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_commands_import_nothing_heavy_at_top(path: Path) -> None:
    allowed = ("typer", "rich", "biod2c_cli", "biod2c_core.errors", "biod2c_core.config")
    for module in imported_modules(path, top_level_only=True):
        light = module.split(".")[0] in STANDARD or module.startswith(allowed)
        assert light or module in ("biod2c_core", "biod2c_core.__version__"), f"{path}: {module}"


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_the_library_imports_the_core_alone(path: Path) -> None:
    for module in imported_modules(path):
        root = module.split(".")[0]
        assert root in STANDARD or root in ("biod2c", "biod2c_core"), f"{path} imports {module}"


STANDARD = __import__("sys").stdlib_module_names


def test_every_folder_of_the_core_has_a_layer() -> None:
    names = {
        path.name.removesuffix(".py")
        for path in (REPOSITORY / "biod2c_core").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert names - {"__init__", "__pycache__"} <= set(RANK)


LIBRARY_FILES = sorted(
    path
    for name in ("biod2c", "biod2c_cli", "biod2c_core")
    for path in (REPOSITORY / name).rglob("*.py")
)


def test_files_and_functions_stay_small() -> None:
    long_files, long_functions = [], []
    for path in LIBRARY_FILES:
        text = path.read_text("utf-8")
        if len(text.splitlines()) > 400:
            long_files.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
                if lines > 60:
                    long_functions.append(f"{path.name}:{node.name} ({lines})")
    assert not long_files
    assert not long_functions


def test_no_folder_of_the_core_is_crowded() -> None:
    folders = {path.parent for path in CORE_FILES}
    assert {folder.name for folder in folders if len(list(folder.glob("*.py"))) > 14} == set()


def test_the_paper_is_read_without_a_switch() -> None:
    """Section 3.1: the fusion module asks for nothing that goes beyond the paper."""
    model = REPOSITORY / "biod2c_core" / "model"
    assert not any("beyond" in name for name in imported_modules(model / "fusion.py"))
    for name in ("fusion.py", "equations.py", "semantic.py", "vision.py", "losses.py"):
        for module in imported_modules(model / name):
            assert not module.startswith("biod2c_core.config"), f"{name} reads the configuration"
