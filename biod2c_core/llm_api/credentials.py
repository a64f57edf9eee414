"""The API key: read from the environment, checked without ever being printed, cut out of texts."""

from __future__ import annotations

import os
import re

from biod2c_core.errors import InputError

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"

_KEY_SHAPES = re.compile(r"\b(sk-[A-Za-z0-9_\-]{8,}|Bearer\s+\S{8,})")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
MASK = "[key]"


def read_api_key(given: str | None = None) -> str:
    """The key to use.

    Args:
        given: A key from the caller; None reads ``OPENAI_API_KEY``.

    Raises:
        InputError: There is none, or it cannot be sent in a header. The message holds no part of it.
    """
    key = (os.environ.get(KEY_VARIABLE, "") if given is None else given).strip()
    if not key:
        raise InputError(
            f"no API key: the environment variable {KEY_VARIABLE} is not set",
            f"Set it (a local server accepts any text: export {KEY_VARIABLE}=local).",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"{KEY_VARIABLE} holds a blank or a character that no key has", "Set it again."
        )
    return key


def read_base_url(given: str | None = None) -> str:
    """The endpoint: the argument, else ``OPENAI_BASE_URL``, else OpenAI's own.

    Raises:
        InputError: It is not an http(s) URL.
    """
    url = (given or os.environ.get(URL_VARIABLE) or DEFAULT_URL).strip().rstrip("/")
    if not re.match(r"https?://[^/\s]+", url):
        raise InputError(
            f"the base URL {redact(url)!r} is not an http(s) address",
            "Give one such as http://localhost:8000/v1.",
        )
    return url


def redact(text: str, key: str = "") -> str:
    """``text`` without the key, anything shaped like one, and credentials inside URLs."""
    if key:
        text = text.replace(key, MASK)
    return _USER_INFO.sub("", _KEY_SHAPES.sub(MASK, text))
