"""The one page: markup, style and script of the package in a single response."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "serve"


@dataclass(frozen=True)
class Page:
    """What ``GET /`` answers."""

    html: str
    headers: dict[str, str]


def load_page() -> Page:
    """Put the page together; its policy lets nothing run or load but what is in it."""
    style = (ASSETS / "page.css").read_text("utf-8")
    script = (ASSETS / "page.js").read_text("utf-8")
    html = (ASSETS / "page.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Page(
        html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script),
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
