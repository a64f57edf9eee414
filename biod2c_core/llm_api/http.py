"""The HTTP below the ``openai`` package: bodies within bounds, no redirects, loopback without a proxy."""

from __future__ import annotations

import ipaddress
import sys
import zlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

MOST_BODY = 16 * 2**20  # bytes of an answer, as sent and unpacked
MOST_FILE = 512 * 2**20  # of a batch's results
_PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 47}  # zlib's name of each


class BodyError(Exception):
    """An endpoint sends more than can be an answer, or something that cannot be unpacked."""


def http_client(base_url: str, timeout: float) -> Any:
    """The client to give to ``openai.AsyncOpenAI``.

    Redirects are not followed: image, caption and key are meant for the endpoint that was named.

    Args:
        base_url: The endpoint. On this machine it is reached directly, whatever proxy is set.
        timeout: Seconds of silence.
    """
    import openai

    return openai.DefaultAsyncHttpxClient(
        timeout=timeout,
        follow_redirects=False,
        trust_env=not is_loopback(base_url),
        headers={"Accept-Encoding": "gzip, deflate"},
        event_hooks={"response": [_bound]},
    )


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


async def _bound(response: Any) -> None:
    """Let the body of a response be read up to a limit only; it is unpacked here."""
    most = MOST_FILE if response.request.url.path.endswith("/content") else MOST_BODY
    packing = response.headers.pop("content-encoding", "").strip().lower()
    if packing not in ("", "identity", *_PACKED):
        raise BodyError(f"the answer is packed as {packing[:40]!r}, which was not asked for")
    http = sys.modules[type(response).__module__.partition(".")[0]]  # httpx or its successor

    class Bounded(http.AsyncByteStream):  # type: ignore[name-defined]
        """The stream of the body, counted."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in _unpacked(self._stream, _PACKED.get(packing), most):
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    response.stream = Bounded(response.stream)


async def _unpacked(stream: Any, form: int | None, most: int) -> AsyncIterator[bytes]:
    unpack = zlib.decompressobj(form) if form else None
    sent = given = 0
    async for chunk in stream:
        sent += len(chunk)
        try:
            part = unpack.decompress(chunk, most + 1 - given) if unpack else chunk
        except zlib.error as error:
            raise BodyError("the answer cannot be unpacked") from error
        given += len(part)
        if max(sent, given) > most:
            raise BodyError(f"the answer has more than {most:,} bytes")
        yield part
    if unpack and sent and not unpack.eof:
        raise BodyError("the answer cannot be unpacked: its end is missing")
