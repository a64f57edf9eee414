"""The page in headless Chromium, with the libraries that npm installs: it answers as ``ask`` does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from asked_page import answer, as_shown, open_page, served, wait_for
from chromium import Page, find_browser, open_browser
from exported import Exported

for needed in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(needed, reason="ONNX needs the extra 'onnx'")


@pytest.fixture(scope="module")
def folder(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documentation says to do: export, and ``npm install``."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    place = shutil.copytree(exported.folder, tmp_path_factory.mktemp("host") / "page")
    install = [npm, "install", "--prefix", place, "--no-audit"]
    result = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if result.returncode:
        pytest.skip(f"npm cannot install: {result.stderr.strip()[:200]}")
    return place


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    with open_browser(browser, tmp_path) as opened:
        yield opened


@pytest.mark.browser
@pytest.mark.network
def test_it_answers_as_ask_does(
    exported: Exported, folder: Path, page: Page, tmp_path: Path
) -> None:
    with served(folder) as address:
        open_page(page, address)
        for index, question in enumerate(tiny_models.QUESTIONS):
            picture = tmp_path / f"{index}.png"
            tiny_models.make_image(index, (100, 200) if index else (20, 30)).save(picture)
            reply = exported.model.ask(picture, question)
            assert answer(page, picture, question) == as_shown(reply)
        foreign = [each for each in page.problems if f"requested {address}" not in each]
    assert foreign == []


@pytest.mark.browser
def test_it_says_what_is_missing_and_what_it_cannot_show(
    exported: Exported, page: Page, tmp_path: Path
) -> None:
    with served(exported.folder) as address:
        page._call("Page.navigate", url=f"{address}index.html")
        with pytest.raises(RuntimeError, match="run 'npm install' in this folder"):
            wait_for(page, "false")
        page.drop(b"no picture", "slice.dcm")
        with pytest.raises(RuntimeError, match=r"slice\.dcm is no picture that a browser reads"):
            wait_for(page, "false", 60)
        assert page.run("document.getElementById('picture').hidden")
        page.drop_all({"a.png": b"", "b.png": b""})
        with pytest.raises(RuntimeError, match="2 files were given: this page asks about one"):
            wait_for(page, "false", 60)
