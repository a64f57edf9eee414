"""The HTTP side: ``/v1/chat/completions``, ``/v1/models``, health, metrics, the page and its pictures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive
from torch import Tensor

from biod2c_core.inference.serving.batching import Delta, Engine, Event, Finished, Job
from biod2c_core.inference.serving.page import load_page
from biod2c_core.inference.serving.pictures import make_picture, parse_picture
from biod2c_core.inference.serving.replies import error_of, extras_of, reason_of, usage_of
from biod2c_core.inference.serving.requests import (
    ChatRequest,
    Limits,
    RefusedError,
    decode_image,
    parse_chat,
    queue_full,
    unknown_model,
)

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


class Server:
    """Turns requests into jobs of an engine, and events of a job into responses."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self.engine = engine
        self.access = access
        self.limits: Limits = engine.limits
        self.name = engine.answerer.name
        self.decoding = asyncio.Semaphore(DECODERS)
        self.started = int(time.time())
        self.inside = 0  # requests from their first byte until their answer begins

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
                    raise _too_late()
                return await asyncio.to_thread(work)

        # A thread cannot be stopped: it keeps its place among those that decode until it is done.
        decoding = asyncio.ensure_future(take_turn())
        decoding.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({decoding}, timeout=max(0.0, deadline - time.monotonic()))
        if not decoding.done():
            raise _too_late()
        return decoding.result()

    async def make_job(self, chat: ChatRequest, deadline: float) -> Job:
        """Decode the image and prepare the question.

        Raises:
            RefusedError: It is not a usable image, or not decoded in time.
        """

        def prepare() -> Tensor:
            return self.engine.answerer.processor.pixels(decode_image(chat.image, self.limits))

        return Job(
            question=chat.question,
            pixels=await self.decode(prepare, deadline),
            image=hashlib.sha256(chat.image).hexdigest(),
            max_tokens=chat.max_tokens,
            stream=chat.stream,
            attention=chat.attention,
            deadline=deadline,
        )

    async def next_event(self, job: Job, receive: Receive) -> Event | None:
        """What happens next; None if the client has gone.

        Raises:
            RefusedError: The job failed, or its time is up.
        """
        event = asyncio.ensure_future(job.events.get())
        gone = asyncio.ensure_future(_disconnect(receive))
        left = max(0.0, job.deadline - time.monotonic())
        try:
            await asyncio.wait({event, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                found = event.result()
                if isinstance(found, RefusedError):
                    raise found
                return found
            if gone.done():
                return None
            raise _too_late()
        finally:
            event.cancel()
            gone.cancel()

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        deadline = time.monotonic() + self.limits.seconds
        self.check_origin(request)
        self.check_key(request)
        full = self.engine.length >= self.limits.queue
        if full or self.inside >= self.limits.queue + self.limits.batch:
            # a client reads after it has written
            await self.read_body(request, deadline, keep=False)
            raise queue_full()
        self.inside += 1
        try:
            return await self._answer(request, deadline)
        finally:
            self.inside -= 1

    async def _answer(self, request: Request, deadline: float) -> Response:
        body = await self.read_body(request, deadline)
        chat = await asyncio.to_thread(parse_chat, body, self.limits, self.name)
        del body
        job = await self.make_job(chat, deadline)
        self.engine.submit(job)
        finished = False
        try:
            first = await self.next_event(job, request.receive)
            finished = isinstance(first, Finished)
            if first is None:
                return Response(status_code=499)  # nobody reads it
            if chat.stream:
                finished = True  # from here on the stream looks after its job
                return StreamingResponse(
                    self._stream(job, first, chat.usage, request.receive),
                    media_type="text/event-stream",
                )
            assert isinstance(first, Finished)
            seconds = self.limits.seconds - (deadline - time.monotonic())
            self.engine.metrics.add("biod2c_seconds_total", seconds)
            return JSONResponse(self._completion(first))
        finally:
            if not finished:
                self.engine.cancel(job)

    async def picture(self, request: Request) -> Response:
        """``POST /picture``: what browsers do not read, as PNG."""
        deadline = time.monotonic() + self.limits.seconds
        self.check_origin(request)
        self.check_key(request)
        if self.inside >= self.limits.queue + self.limits.batch:
            await self.read_body(request, deadline, keep=False)
            raise queue_full()
        self.inside += 1
        try:
            body = await self.read_body(request, deadline)

            def prepare() -> dict[str, Any]:
                return make_picture(parse_picture(body), self.limits)

            return JSONResponse(await self.decode(prepare, deadline))
        finally:
            self.inside -= 1

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
        }

    def _completion(self, answer: Finished) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": reason_of(answer),
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_of(answer),
            "biod2c": extras_of(answer),
        }

    async def _stream(
        self, job: Job, first: Event, usage: bool, receive: Receive
    ) -> AsyncIterator[str]:
        """Server-sent events: a role, pieces of the answer, the end, the tokens if asked for."""
        head = self._head("chat.completion.chunk")

        def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"

        finished = False
        try:
            yield chunk({"role": "assistant", "content": ""})
            event: Event | None = first
            while isinstance(event, Delta):
                yield chunk({"content": event.text})
                event = await self.next_event(job, receive)
            if isinstance(event, Finished):
                finished = True
                yield chunk({}, reason_of(event), biod2c=extras_of(event))
                if usage:
                    last = {**head, "choices": [], "usage": usage_of(event)}
                    yield f"data: {json.dumps(last)}\n\n"
                yield "data: [DONE]\n\n"
        except RefusedError as error:  # the status has been sent: only the stream can tell
            yield f"data: {json.dumps(error_of(error))}\n\n"
        finally:
            if not finished:
                self.engine.cancel(job)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_late() -> RefusedError:
    return RefusedError(503, "no answer in time; try later", "timeout", 2)


def make_app(engine: Engine, access: Access) -> FastAPI:
    """The application; the engine starts and ends with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            await asyncio.to_thread(engine.close)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if access.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(access.hosts))
    _add_routes(app, Server(engine, access))
    return app


def _add_routes(app: FastAPI, server: Server) -> None:
    engine, page = server.engine, load_page()

    async def guarded(work: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """Run a handler; turn a refusal into its response, and count."""
        try:
            response = await work(request)
        except RefusedError as error:
            headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            if error.status in (408, 413):  # the rest of the body is not read
                headers["Connection"] = "close"
            response = JSONResponse(error_of(error), error.status, headers)
        engine.metrics.add("biod2c_requests_total", label=f'status="{response.status_code}"')
        return response

    model = {"id": server.name, "object": "model", "created": server.started, "owned_by": "biod2c"}

    async def models(request: Request) -> Response:
        server.check_key(request)
        return JSONResponse({"object": "list", "data": [model]})

    async def one_model(request: Request) -> Response:
        server.check_key(request)
        if request.path_params["name"] != server.name:
            raise unknown_model(request.path_params["name"], server.name)
        return JSONResponse(model)

    async def metrics(request: Request) -> Response:
        server.check_key(request)
        return PlainTextResponse(engine.metrics.render(engine.length))

    async def chat_route(request: Request) -> Response:
        return await guarded(server.chat, request)

    async def picture_route(request: Request) -> Response:
        return await guarded(server.picture, request)

    async def models_route(request: Request) -> Response:
        return await guarded(models, request)

    async def model_route(request: Request) -> Response:
        return await guarded(one_model, request)

    async def metrics_route(request: Request) -> Response:
        return await guarded(metrics, request)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": server.name})

    async def index(request: Request) -> Response:
        return HTMLResponse(page.html, headers=page.headers)

    app.add_api_route("/v1/chat/completions", chat_route, methods=["POST"])
    app.add_api_route("/picture", picture_route, methods=["POST"])
    app.add_api_route("/v1/models", models_route, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", model_route, methods=["GET"])
    app.add_api_route("/metrics", metrics_route, methods=["GET"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/", index, methods=["GET"])
