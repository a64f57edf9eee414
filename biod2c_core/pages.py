"""Web pages from the templates in ``assets``.

Style and script are in the page, and its content policy lets nothing else run. Whatever a template is
given reaches the page as escaped text, or through ``tojson`` as data, never as markup. A script may
import others of ``assets``, by relative paths: they stand before it in the page.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]*)";\n', re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page and the content policy that belongs to it."""

    html: str
    policy: str


def render_page(name: str, allowed: str, **values: Any) -> Page:
    """Put a page together from ``NAME.html``, ``NAME.css`` and ``NAME.js``.

    Args:
        name: Below ``assets``, such as ``report/page``.
        allowed: What the policy allows beyond the page's own style and script, as
            ``img-src data:``.
        **values: What the template names beside ``style``, ``script`` and ``policy``.
    """
    style, script = _source(f"{name}.css"), "".join(_scripts(f"{name}.js", set()))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        f"{allowed}; base-uri 'none'; form-action 'none'"
    )
    ours = {"style": Markup(style), "script": Markup(script), "policy": policy}
    return Page(render(f"{name}.html", **ours, **values), policy)


def render(template: str, **values: Any) -> Markup:
    """Fill in one template of ``assets``; the result is markup for another one."""
    return Markup(_templates().get_template(template).render(values))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("biod2c_core", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment


def _scripts(name: str, known: set[str]) -> Iterator[str]:
    """A script after those that it imports, each once, without the lines that say so."""
    known.add(name)
    text = _source(name)
    for path in _IMPORT.findall(text):
        other = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if other not in known:
            yield from _scripts(other, known)
    yield _IMPORT.sub("", text)


def _source(name: str) -> str:
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
