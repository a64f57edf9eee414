"""The one page, in a single response."""

from __future__ import annotations

from dataclasses import dataclass

from biod2c_core.pages import render_page


@dataclass(frozen=True)
class Answer:
    """What ``GET /`` answers."""

    html: str
    headers: dict[str, str]


def load_page() -> Answer:
    """Put the page together; its policy lets nothing run or load but what is in it."""
    page = render_page(
        "serve/page", "img-src data: blob:; connect-src 'self'; frame-ancestors 'none'"
    )
    return Answer(
        page.html,
        {
            "Content-Security-Policy": page.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )
