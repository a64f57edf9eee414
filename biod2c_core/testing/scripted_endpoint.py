"""A scripted stand-in for an OpenAI-compatible endpoint: a real local HTTP server, for tests.

It plays good answers and every kind of bad one::

    with FakeEndpoint(script=["500", "ok"]) as endpoint:
        client = Client("fake", base_url=endpoint.base_url, api_key="any")

    python -m biod2c_core.testing --port 8900 --latency 1 --faults 0.2

======== ===========================================================================
play     what happens
======== ===========================================================================
ok       the reply
429      turned away with ``Retry-After``
500, 503 a server error
timeout  no answer until the caller hangs up
trickle  headers, then one byte at a time for ever
cut      the connection ends in the middle of the body
garbage  a body that is not JSON
nonsense a well-formed answer whose text cannot be parsed
empty    a well-formed answer without text
refusal  the model refuses
400, 401 the request is bad, the key is wrong; the message repeats the key, as some endpoints do
quota    429 that says the credit is used up
======== ===========================================================================
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from biod2c_core.testing.scripted_batches import FakeBatches
from biod2c_core.testing.scripted_completion import completion_body, request_digest
from biod2c_core.testing.scripted_judge import judge_reply

Reply = Callable[[dict[str, Any]], str]
FAULTS = ("429", "500", "503", "timeout", "cut", "garbage", "nonsense", "refusal")
_LARGEST_BODY = 256 * 2**20


def default_reply(request: dict[str, Any]) -> str:
    """Two question-answer pairs that differ from request to request, or what a judge is asked for."""
    if (verdict := judge_reply(request)) is not None:
        return verdict
    name = request_digest(request)
    pairs = [
        {
            "question": f"What does finding {name} in this image suggest?",
            "answer": f"It suggests process {name}, seen as a rounded opacity.",
        },
        {
            "question": f"Where in the image is structure {name} located?",
            "answer": f"Structure {name} lies near the upper left margin.",
        },
    ]
    return json.dumps({"pairs": pairs})


@dataclass
class HttpRequest:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass
class FakeEndpoint:
    """The server; use it in a ``with`` block, or ``serve_forever``.

    Attributes:
        reply: The text of a good answer, or a function from the request to it.
        script: Plays for the first requests in order of arrival; ``ok`` afterwards.
        fault_rate: Share of the other requests that get a random play of ``faults``.
        faults: Plays to draw from.
        latency: Seconds before each answer.
        requests_per_minute: Turn away what is over it, as real endpoints do.
        retry_after: What a 429 tells the caller to wait, in seconds.
        structured: Whether ``response_format`` is understood (400 if not).
        api_key: The one key that is accepted; None accepts any.
        batch_seconds: After which a batch is completed; None leaves that to ``batches.finish_all``.
        log: File that gets one JSON line for each request received and answered.
        events: The same lines, in memory.
    """

    reply: str | Reply = default_reply
    script: Iterable[str] = ()
    fault_rate: float = 0.0
    faults: tuple[str, ...] = FAULTS
    latency: float = 0.0
    requests_per_minute: int | None = None
    retry_after: float = 0.05
    structured: bool = True
    api_key: str | None = None
    batch_seconds: float | None = None
    log: Path | None = None
    seed: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._script = deque(self.script)
        self._random = random.Random(self.seed)
        self._recent: deque[float] = deque()
        self._file: IO[str] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._count = 0
        self.batches = FakeBatches(self._text_for, self.batch_seconds)
        self.port = 0

    @property
    def base_url(self) -> str:
        """What to give a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FakeEndpoint:
        self._thread = threading.Thread(target=self._run_in_thread, daemon=True)
        self._thread.start()
        self._ready.wait(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def received(self) -> list[dict[str, Any]]:
        """The chat requests that came in, in order."""
        return [event for event in self.events if event["event"] == "received"]

    async def serve(self, port: int = 0) -> None:
        """Answer until stopped; ``port`` 0 takes a free one."""
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self.log is not None:
            self._file = self.log.open("a", encoding="utf-8", buffering=1)
        server = await asyncio.start_server(
            self._connection, "127.0.0.1", port, limit=2**20, backlog=512
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._file is not None:
            self._file.close()

    def _run_in_thread(self) -> None:
        asyncio.run(self.serve())

    def _note(self, **event: Any) -> None:
        event["time"] = time.time()
        self.events.append(event)
        if self._file is not None:
            self._file.write(json.dumps(event) + "\n")

    def _text_for(self, request: dict[str, Any]) -> str:
        return self.reply if isinstance(self.reply, str) else self.reply(request)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        try:
            with suppress(*gone, asyncio.CancelledError):
                while (request := await _read_request(reader)) is not None:
                    if not await self._answer(request, reader, writer):
                        break
        finally:
            writer.close()

    async def _answer(
        self, request: HttpRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False ends the connection."""
        if not request.path.endswith("/chat/completions"):
            status, value = self.batches.handle(request.method, request.path, request.body)
            return await _send(writer, status, value)
        body = request.json()
        self._count += 1
        number, digest = self._count, request_digest(body)
        play = self._choose(request, body)
        self._note(event="received", number=number, request=digest, play=play)
        await asyncio.sleep(self.latency)
        going = await self._play(play, request, body, reader, writer)
        self._note(event="answered", number=number, request=digest, play=play)
        return going

    def _choose(self, request: HttpRequest, body: dict[str, Any]) -> str:
        if (
            self.api_key is not None
            and request.headers.get("authorization") != f"Bearer {self.api_key}"
        ):
            return "401"
        if not self.structured and "response_format" in body:
            return "400"
        if self._over_the_limit():
            return "429"
        if self._script:
            return self._script.popleft()
        if self._random.random() < self.fault_rate:
            return self._random.choice(self.faults)
        return "ok"

    def _over_the_limit(self) -> bool:
        if self.requests_per_minute is None:
            return False
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) >= self.requests_per_minute:
            return True
        self._recent.append(now)
        return False

    async def _play(
        self,
        play: str,
        request: HttpRequest,
        body: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if play in ("ok", "nonsense", "empty", "refusal"):
            return await _send(writer, 200, self._completion(play, body), self._limit_headers())
        if play == "timeout":
            await reader.read()  # returns when the caller hangs up
            return False
        if play in ("cut", "trickle"):
            return await _break_off(writer, forever=play == "trickle")
        if play == "garbage":
            return await _send(writer, 200, b'{"choices": [{"message": {"cont')
        status = 429 if play == "quota" else int(play)
        headers = {"Retry-After": f"{self.retry_after:g}"} if play == "429" else {}
        shown = request.headers.get("authorization", "")
        error = {"message": f"scripted {play}; you sent {shown}", "type": play, "code": None}
        if play == "quota":
            error["code"] = "insufficient_quota"
        return await _send(writer, status, {"error": error}, headers)

    def _limit_headers(self) -> dict[str, str]:
        if self.requests_per_minute is None:
            return {}
        left = self.requests_per_minute - len(self._recent)
        reset = 60 - (time.monotonic() - self._recent[0]) if self._recent else 0.0
        return {
            "x-ratelimit-limit-requests": str(self.requests_per_minute),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{max(0.0, reset):.3f}s",
        }

    def _completion(self, play: str, request: dict[str, Any]) -> dict[str, Any]:
        text = {"ok": self._text_for, "nonsense": lambda _: "I think {this} is [fine"}.get(play)
        content = text(request) if text else ""
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if play == "refusal":
            message |= {"content": None, "refusal": "I cannot help with that."}
        return completion_body(request, message)


async def _read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = (*first.split(" "), "", "")[:3]
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _LARGEST_BODY:
        return None
    body = await reader.readexactly(int(length))
    return HttpRequest(method, path.split("?")[0], headers, body)


async def _send(
    writer: asyncio.StreamWriter, status: int, value: Any, headers: dict[str, str] | None = None
) -> bool:
    raw = isinstance(value, bytes)
    body = value if raw else json.dumps(value).encode()
    lines = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    head = f"HTTP/1.1 {status} Scripted\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    writer.write(head.encode() + b"\r\n" + body)
    await writer.drain()
    return True


async def _break_off(writer: asyncio.StreamWriter, forever: bool) -> bool:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
    )
    await writer.drain()
    while forever:
        await asyncio.sleep(0.05)
        writer.write(b" ")
        await writer.drain()
    return False
