"""A torchvision whose compiled library does not load must not take everything else with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from biod2c_core import torchvision_compat

FAKE = """
import torch
assert torch.ops.torchvision.nms is not None  # what dies where the library did not load
from torch.library import register_fake
"""
SCRIPT = """
import sys
import biod2c_core
assert "torch" not in sys.modules
import importlib.util
spec = importlib.util.find_spec("torchvision")
assert spec is not None and "torch" not in sys.modules  # looking is not importing
import torchvision, torch
import torchvision.transforms
try:
    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except NotImplementedError:
    print("nms raises")
"""


@pytest.fixture
def broken_torchvision(tmp_path: Path) -> Path:
    """A torchvision whose ``_C.so`` is not a library."""
    package = tmp_path / "torchvision"
    (package / "transforms").mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE)
    (package / "transforms" / "__init__.py").write_text("")
    (package / "_C.so").write_bytes(b"no library")
    return tmp_path


def test_torchvision_imports_without_its_library_and_its_operators_still_fail(
    broken_torchvision: Path,
) -> None:
    code = f"import sys; sys.path.insert(0, {str(broken_torchvision)!r}); exec({SCRIPT!r})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "nms raises\n"


def test_the_finder_is_installed_once() -> None:
    before = list(sys.meta_path)
    torchvision_compat.install()
    assert sys.meta_path == before
    finders = [f for f in before if isinstance(f, torchvision_compat._TorchvisionFinder)]
    assert len(finders) == 1


def test_only_torchvision_itself_is_wrapped() -> None:
    finder = torchvision_compat._TorchvisionFinder()
    assert finder.find_spec("torchvision.ops", None) is None
    assert finder.find_spec("torch", None) is None


def test_no_torchvision_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert torchvision_compat._TorchvisionFinder().find_spec("torchvision", None) is None
