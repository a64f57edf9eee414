"""The page of ``biod2c export --onnx`` on a static host, asked as a person does."""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "evaluation"))

from chromium import Page

COUNT = "document.querySelectorAll('#answers li').length"
STATUS = "document.getElementById('status').textContent"
FAILED = "document.getElementById('status').className === 'error'"
NEWEST = (
    "(item => [item.querySelector('b').textContent, item.querySelector('.bar').nextSibling.data])"
    "(document.querySelector('#answers li'))"
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder as a static host gives it; yields the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def wait_for(page: Page, condition: str, seconds: float = 120.0) -> None:
    """Until a JavaScript condition holds.

    Raises:
        RuntimeError: The page shows an error, or time is up.
    """
    end = time.monotonic() + seconds
    while not page.run(condition):
        if page.run(FAILED) or time.monotonic() > end:
            raise RuntimeError(page.run(STATUS) or f"not in {seconds:g} s: {condition}")
        time.sleep(0.005)


def answer(page: Page, image: Path, question: str, drop: bool = True) -> tuple[str, str]:
    """Ask as a person does: the answer, and the line about its confidence."""
    before = page.run(COUNT)
    if drop:
        page.drop(image.read_bytes(), image.name)
    wait_for(page, "!document.getElementById('picture').hidden")
    page.run(f"document.getElementById('question').value = {json.dumps(question)}")
    page.run("document.getElementById('send').click()")
    wait_for(page, f"{COUNT} > {before}")
    wait_for(page, "!document.getElementById('send').disabled")
    text, line = page.run(NEWEST)
    return text, line


def open_page(page: Page, address: str) -> None:
    """Open it, and wait for the model."""
    page._call("Page.navigate", url=f"{address}index.html")
    wait_for(page, f"document.readyState === 'complete' && {STATUS} === ''")


def as_shown(reply: Any) -> tuple[str, str]:
    """What ``ask`` replies, as the page shows it."""
    kind = "confidence" if reply.calibrated else "confidence (not calibrated)"
    line = f"{kind} {reply.confidence:.2f}"
    if reply.familiarity is not None:
        line += f", familiarity {reply.familiarity:.2f}"
    return reply.answer, line
