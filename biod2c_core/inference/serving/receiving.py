"""What comes in: who may ask, bodies within their limits, and images decoded a few at once."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from biod2c_core.inference.serving.requests import Limits, RefusedError, too_late

T = TypeVar("T")
BODY_PAUSE = 10.0  # seconds without a byte of the body
DECODERS = 2  # images decoded at once: each may take a limit's worth of memory


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        key: Needed as ``Authorization: Bearer KEY``; None for no key.
        hosts: Names that the request may call this server by; a page of another site that has its
            name point here is refused.
    """

    key: str | None = None
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")


class Receiver:
    """Takes requests in, and refuses those that are too long, too slow, or not allowed.

    Args:
        access: Who may ask.
        limits: What the server bears.
    """

    def __init__(self, access: Access, limits: Limits) -> None:
        self.access = access
        self.limits = limits
        self.decoding = asyncio.Semaphore(DECODERS)

    def check_key(self, request: Request) -> None:
        """Refuse a request without the key.

        Raises:
            RefusedError: 401.
        """
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = self.access.key
        if key is not None and not hmac.compare_digest(given.encode(), key.encode()):
            raise RefusedError(401, "wrong or no API key", "invalid_api_key")

    def check_origin(self, request: Request) -> None:
        """Refuse a request that a page of another site makes.

        Raises:
            RefusedError: 403.
        """
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise RefusedError(403, "pages of other sites may not ask here", "foreign_origin")

    async def read_body(self, request: Request, deadline: float, keep: bool = True) -> bytes:
        """The body, as long as it may be; nothing of it with ``keep`` false.

        Args:
            request: The request.
            deadline: When all of it must be here, in ``time.monotonic()``.
            keep: Give what came.

        Raises:
            RefusedError: 413 too long, 415 no JSON, 408 too slow, 499 nobody there any more.
        """
        limit = self.limits.body_bytes
        too_long = RefusedError(413, f"the body is over the limit of {limit:,} bytes", "too_large")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            raise too_long
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":  # what a form of another site cannot send
            raise RefusedError(415, "send application/json", "not_json")
        body = bytearray()

        async def collect() -> None:
            received, stream = 0, aiter(request.stream())
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(stream), BODY_PAUSE)
                except StopAsyncIteration:
                    return
                received += len(chunk)
                if received > limit:
                    raise too_long
                if keep:
                    body.extend(chunk)

        try:
            await asyncio.wait_for(collect(), deadline - time.monotonic())
        except asyncio.TimeoutError:
            raise RefusedError(408, "the body came too slowly", "slow_body") from None
        except ClientDisconnect:
            raise RefusedError(499, "the client has gone", "gone") from None  # nobody reads it
        return bytes(body)

    async def decode(self, work: Callable[[], T], deadline: float) -> T:
        """Decode in a thread, as one of the few that do so at once.

        Args:
            work: What decodes.
            deadline: When it must be done, in ``time.monotonic()``.

        Raises:
            RefusedError: It is not done in time; or what ``work`` raises.
        """

        async def take_turn() -> T:
            async with self.decoding:
                if time.monotonic() > deadline:
                    raise too_late()
                return await asyncio.to_thread(work)

        # A thread cannot be stopped: it keeps its place among those that decode until it is done.
        decoding = asyncio.ensure_future(take_turn())
        decoding.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({decoding}, timeout=max(0.0, deadline - time.monotonic()))
        if not decoding.done():
            raise too_late()
        return decoding.result()
