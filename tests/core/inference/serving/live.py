"""A server with a tiny random model at a free port, in a thread of the test's process."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tiny_models
import uvicorn

from biod2c_core.inference.serving.app import make_app
from biod2c_core.inference.serving.batching import Engine
from biod2c_core.inference.serving.connections import DrainingServer, guarded_protocol
from biod2c_core.inference.serving.metrics import Metrics
from biod2c_core.inference.serving.receiving import Access
from biod2c_core.inference.serving.requests import Limits
from biod2c_core.inference.serving.server import listen
from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.generation import Answerer


class Live:
    """A running server: its address, engine and metrics."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine
        self.port = int(url.rpartition(":")[2])

    def count(self, name: str, label: str = "") -> float:
        return self.engine.metrics.value(f"biod2c_{name}", label)


@contextmanager
def live_server(
    checkpoint: Path,
    limits: Limits | None = None,
    key: str | None = None,
    most: int = 500,
    header_seconds: float = 10.0,
) -> Iterator[Live]:
    answerer = Answerer.load(str(checkpoint), "cpu")
    answerer.name = "tiny"
    engine = Engine(VQAModel(answerer), limits or Limits(seconds=120), Metrics())
    bound = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        make_app(engine, Access(key)),
        log_level="error",
        access_log=False,
        http=guarded_protocol(most, header_seconds),
        timeout_graceful_shutdown=2,
    )
    server = DrainingServer(config, engine.close, lambda _: None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Live(f"http://127.0.0.1:{bound.getsockname()[1]}", engine)
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()


def wait_for(condition: Any, seconds: float = 240.0) -> None:
    """Until the condition holds; a server on a busy machine needs its time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def png(index: int = 0) -> bytes:
    buffer = io.BytesIO()
    tiny_models.make_image(index).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes, media: str = "image/png") -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def messages(question: str, url: str | None = None) -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": url or data_url(png())}}
    return [{"role": "user", "content": [{"type": "text", "text": question}, image]}]


def about(question: str, images: Sequence[int]) -> list[Any]:
    """Messages with several images."""
    (message,) = messages(question)
    message["content"][1:] = [
        {"type": "image_url", "image_url": {"url": data_url(png(index))}} for index in images
    ]
    return [message]


def body(question: str = "is it?", url: str | None = None, **more: Any) -> bytes:
    return json.dumps({"messages": messages(question, url), **more}).encode()
