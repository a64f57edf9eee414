"""The HTTP side: ``/v1/chat/completions``, ``/v1/models``, health, metrics, the page and its pictures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import StreamingResponse
from starlette.types import Receive
from torch import Tensor

from biod2c_core.inference.serving.batching import Delta, Engine, Event, Finished, Job
from biod2c_core.inference.serving.page import load_page
from biod2c_core.inference.serving.pictures import make_picture, parse_picture
from biod2c_core.inference.serving.receiving import Access, Receiver
from biod2c_core.inference.serving.replies import error_of, extras_of, reason_of, usage_of
from biod2c_core.inference.serving.requests import (
    ChatRequest,
    Limits,
    RefusedError,
    decode_image,
    parse_chat,
    queue_full,
    read_image,
    too_late,
    unknown_model,
)
from biod2c_core.inference.serving.several import together


class Server:
    """Turns requests into jobs of an engine, and events of a job into responses."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self.engine = engine
        self.limits: Limits = engine.limits
        self.receiver = Receiver(access, self.limits)
        self.name = engine.answerer.name
        self.started = int(time.time())
        self.inside = 0  # requests from their first byte until their answer begins

    async def make_jobs(self, chat: ChatRequest, deadline: float) -> list[Job]:
        """Decode the images, one after another, and prepare the question about each.

        Raises:
            RefusedError: One is not a usable image, or not decoded in time.
        """
        count = len(chat.images)

        def pixels(image: bytes) -> Tensor:
            return self.engine.answerer.processor.pixels(decode_image(image, self.limits))

        def prepare(place: int) -> Tensor:
            return read_image(partial(pixels, chat.images[place]), place, count)

        return [
            Job(
                question=chat.question,
                pixels=await self.receiver.decode(partial(prepare, place), deadline),
                image=hashlib.sha256(image).hexdigest(),
                max_tokens=chat.max_tokens,
                stream=chat.stream and count == 1,
                attention=chat.attention,
                deadline=deadline,
            )
            for place, image in enumerate(chat.images)
        ]

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
            raise too_late()
        finally:
            event.cancel()
            gone.cancel()

    async def first_event(self, jobs: list[Job], receive: Receive) -> Event | None:
        """What happens first; of several images the answer of the whole. None if the client has gone.

        Raises:
            RefusedError: A job failed, or their time is up.
        """
        if len(jobs) == 1:
            return await self.next_event(jobs[0], receive)
        answers: list[Finished] = []
        for job in jobs:
            event = await self.next_event(job, receive)
            if event is None:
                return None
            assert isinstance(event, Finished)
            answers.append(event)
        return together(answers)

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        deadline = time.monotonic() + self.limits.seconds
        self.receiver.check_origin(request)
        self.receiver.check_key(request)
        full = self.engine.length >= self.limits.queue
        if full or self.inside >= self.limits.queue + self.limits.batch:
            # a client reads after it has written
            await self.receiver.read_body(request, deadline, keep=False)
            raise queue_full()
        self.inside += 1
        try:
            return await self._answer(request, deadline)
        finally:
            self.inside -= 1

    async def _answer(self, request: Request, deadline: float) -> Response:
        body = await self.receiver.read_body(request, deadline)
        chat = await asyncio.to_thread(parse_chat, body, self.limits, self.name)
        del body
        jobs = await self.make_jobs(chat, deadline)
        self.engine.submit(jobs)
        finished = False
        try:
            first = await self.first_event(jobs, request.receive)
            finished = isinstance(first, Finished)
            if first is None:
                return Response(status_code=499)  # nobody reads it
            if chat.stream:
                finished = True  # from here on the stream looks after its job
                return StreamingResponse(
                    self._stream(jobs[0], first, chat.usage, request.receive),
                    media_type="text/event-stream",
                )
            assert isinstance(first, Finished)
            seconds = self.limits.seconds - (deadline - time.monotonic())
            self.engine.metrics.add("biod2c_seconds_total", seconds)
            return JSONResponse(self._completion(first))
        finally:
            if not finished:
                self.engine.cancel(jobs)

    async def picture(self, request: Request) -> Response:
        """``POST /picture``: what browsers do not read, as PNG."""
        deadline = time.monotonic() + self.limits.seconds
        self.receiver.check_origin(request)
        self.receiver.check_key(request)
        if self.inside >= self.limits.queue + self.limits.batch:
            await self.receiver.read_body(request, deadline, keep=False)
            raise queue_full()
        self.inside += 1
        try:
            body = await self.receiver.read_body(request, deadline)

            def prepare() -> dict[str, Any]:
                return make_picture(parse_picture(body), self.limits)

            return JSONResponse(await self.receiver.decode(prepare, deadline))
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
        """Server-sent events: a role, pieces of the answer, the end, the tokens if asked for.

        Args:
            job: The one that is answered in pieces; not read where ``first`` is the whole of several.
            first: What came first.
            usage: End with the tokens.
            receive: Of the request.
        """
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
                if event.images:  # the whole is known when all is known
                    yield chunk({"content": event.text})
                yield chunk({}, reason_of(event), biod2c=extras_of(event))
                if usage:
                    last = {**head, "choices": [], "usage": usage_of(event)}
                    yield f"data: {json.dumps(last)}\n\n"
                yield "data: [DONE]\n\n"
        except RefusedError as error:  # the status has been sent: only the stream can tell
            yield f"data: {json.dumps(error_of(error))}\n\n"
        finally:
            if not finished:
                self.engine.cancel([job])


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
        server.receiver.check_key(request)
        return JSONResponse({"object": "list", "data": [model]})

    async def one_model(request: Request) -> Response:
        server.receiver.check_key(request)
        if request.path_params["name"] != server.name:
            raise unknown_model(request.path_params["name"], server.name)
        return JSONResponse(model)

    async def metrics(request: Request) -> Response:
        server.receiver.check_key(request)
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
