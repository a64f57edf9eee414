"""The Python of README, ``docs/python.md`` and the notebook runs, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n```\n(.*?)```)?", re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples can be read, and written beside."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_in_python_prints_the_answer(folder: Path) -> None:
    ((code, _),) = BLOCK.findall((REPOSITORY / "README.md").read_text("utf-8"))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == "x-ray\n"


def test_the_page_on_python_prints_what_it_says(folder: Path) -> None:
    names: dict[str, Any] = {}
    blocks = BLOCK.findall((REPOSITORY / "docs" / "python.md").read_text("utf-8"))
    assert len(blocks) > 5
    for code, said in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue() == said, code
    assert (folder / "map.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    jupyter = pytest.importorskip("jupyter_client")
    notebook = nbformat.read(REPOSITORY / "examples" / "ask.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "strip its outputs"
    with TemporaryDirectory() as sockets:  # a short path, and nobody else's
        nbclient.NotebookClient(
            notebook,
            km=jupyter.AsyncKernelManager(
                kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel"
            ),
            timeout=120,
            resources={"metadata": {"path": str(REPOSITORY / "examples")}},
        ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = "".join(output.get("text", "") for output in outputs)
    assert "x-ray 0." in texts
    assert "chest_xray.jpg: chest" in texts
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
