"""What uvicorn leaves open: connections that ask nothing, too many of them, and how the server ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

HEADER_SECONDS = (
    10.0  # from the connection, or the end of an answer, to the end of a request's headers
)
BACKLOG = 128  # accepted in one go, before any of them can be refused
MOST_CONNECTIONS = 1000
_SPARE = 16  # files that a request or a library may open
_QUIET = 60.0  # seconds between two lines about the same trouble
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def most_connections() -> int:
    """As many as leave files to work with."""
    if resource is None:
        return MOST_CONNECTIONS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    taken = _SPARE
    with suppress(OSError):
        taken += len(list(Path("/proc/self/fd").iterdir()))
    return max(4, min(MOST_CONNECTIONS, limit - taken - BACKLOG, (limit - taken) // 2 + 1))


def guarded_protocol(most: int, header_seconds: float = HEADER_SECONDS) -> type[H11Protocol]:
    """HTTP connections that must send a request's headers in time, and of which there are only so many.

    Args:
        most: Connections at once; a further one is answered with 503 and closed.
        header_seconds: Until a request's headers must be there.
    """

    class GuardedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.write(_BUSY)
                transport.close()
                return
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            """Start the clock unless it runs; stop it once there is a request to answer."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._timer is None:
                self._timer = self.loop.call_later(header_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return GuardedProtocol


class QuietErrors:
    """Handles what the event loop reports: one line a minute where files run out, nothing a traceback."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = -_QUIET

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """As ``loop.set_exception_handler`` wants it."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_FILES:
            if time.monotonic() - self._told >= _QUIET:
                self._told = time.monotonic()
                self._tell(f"no connection can be accepted ({os.strerror(error.errno)})")
            return
        loop.default_exception_handler(context)


class DrainingServer(uvicorn.Server):
    """Ends in order: what is being answered is finished, what waits is told to come again.

    Args:
        config: Of uvicorn.
        drain: Blocks until nothing is being answered any more.
        tell: Given a line where no connection can be accepted.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._handler = QuietErrors(tell)

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn's."""
        asyncio.get_running_loop().set_exception_handler(self._handler)
        await super().startup(sockets)

    async def shutdown(self, sockets: Any = None) -> None:
        """As uvicorn's; requests that are given up at its end are no failures of the server."""
        logging.getLogger("uvicorn.error").addFilter(_is_failure)
        await asyncio.to_thread(self._drain)
        await super().shutdown(sockets)


def _is_failure(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError)
