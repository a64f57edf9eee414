"""The page: one response that loads nothing, and works in a real browser."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, live_server, png, wait_for

from biod2c_core.inference.serving.page import load_page

sys.path.append(str(Path(__file__).resolve().parents[2] / "evaluation"))

from chromium import Page, find_browser, open_browser


def test_the_page_is_whole_and_loads_nothing() -> None:
    page = load_page()
    assert "/*S" not in page.html
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in page.html
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha")


@pytest.fixture(scope="module")
def live(checkpoint: Path) -> Iterator[Live]:
    with live_server(checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def page(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    with open_browser(browser, tmp_path_factory.mktemp("browser")) as opened:
        opened._call("Page.navigate", url=f"{live.url}/")
        wait_for(lambda: opened.run("document.readyState") == "complete")
        yield opened


def drop(page: Page, data: bytes, name: str = "image.png") -> None:
    """Drop a file on the page, as a person does."""
    page.run(
        "(() => {"
        f"const bytes = Uint8Array.from(atob('{base64.b64encode(data).decode()}'),"
        " c => c.charCodeAt(0));"
        "const carried = new DataTransfer();"
        f"carried.items.add(new File([bytes], '{name}', {{type: 'image/png'}}));"
        "document.getElementById('drop').dispatchEvent("
        "new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true}));"
        "})()"
    )


def ask(page: Page, question: str) -> None:
    page.run(f"document.getElementById('question').value = '{question}'")
    page.run("document.getElementById('send').click()")


ANSWERS = "document.querySelectorAll('#answers li').length"
STATUS = "document.getElementById('status').textContent"
PIXELS = "document.getElementById('picture').toDataURL()"


@pytest.mark.browser
def test_drop_ask_see(page: Page, live: Live) -> None:
    ask(page, "is it?")
    assert page.run(STATUS) == "Choose an image first."
    drop(page, png())
    wait_for(lambda: not page.run("document.getElementById('picture').hidden"))
    plain = page.run(PIXELS)
    ask(page, "is there a lesion?")
    wait_for(lambda: page.run(ANSWERS) == 1)
    said = page.run("document.querySelector('#answers li').textContent")
    assert said.startswith("is there a lesion? — ")
    assert "confidence (not calibrated) 0." in said or "confidence (not calibrated) 1." in said
    painted = page.run(PIXELS)
    assert painted != plain  # the map lies on the image
    page.run("document.getElementById('overlay').click()")
    assert page.run(PIXELS) == plain
    page.run("document.getElementById('overlay').click()")
    ask(page, "where is the arrow?")
    wait_for(lambda: page.run(ANSWERS) == 2)
    assert page.run(PIXELS) != painted  # another question, another map
    page.run("document.querySelectorAll('#answers li')[1].click()")
    assert page.run(PIXELS) == painted
    own = [problem for problem in page.problems if f"requested {live.url}" not in problem]
    assert own == []


@pytest.mark.browser
def test_what_is_no_image_is_said(page: Page) -> None:
    drop(page, b"no image", "notes.txt")
    wait_for(lambda: "no image that the browser can read" in page.run(STATUS))
