"""HTTP requests to ``serve``: heads, lengths, bodies and pictures that no honest client sends."""

from __future__ import annotations

import base64
import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import tiny_models
from children import Outcome, Read, Said
from mutations import NASTY, VALUES, either, mutated

from biod2c_core.inference.serving.requests import Limits
from biod2c_core.model.checkpoints.folder import save_checkpoint
from kinds import pictures

_HEADS = (
    "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 1e3", "Content-Length: 5\r\nContent-Length: 7",  # noqa: E501
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Content-Encoding: gzip", "Expect: 100-continue",  # noqa: E501
    "Host: evil.example", "Host:", "Origin: null", "Authorization: Bearer \xff", "Connection: Upgrade\r\nUpgrade: websocket",  # noqa: E501
    "X: " + "y" * 70_000, "\r\n".join(f"X{n}: y" for n in range(500)), "Content-Type: text/plain", "X\x00: y", " folded: x",  # noqa: E501
    "Content-Type: application/json; charset=utf-7", "Range: bytes=0-99999999", "X-Forwarded-For: 1",
)  # fmt: skip
_PATHS = (
    "/v1/chat/completions", "/picture", "/v1/models", "/v1/models/%00", "/health", "/metrics", "/", "/../../etc/passwd",  # noqa: E501
    "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/" + "x" * 9000, "*", "http://evil.example/", "/\xff", "/v1//chat/completions", "",  # noqa: E501
)  # fmt: skip


def prepare(folder: Path) -> dict[str, Any]:
    """A tiny checkpoint, and pictures to damage."""
    llama = tiny_models.save_language_model(folder / "llama")
    save_checkpoint(folder / "model", *tiny_models.build(llama))
    return {"model": folder / "model", "pictures": pictures.prepare(folder)}


def begin(examples: dict[str, Any], folder: Path, said: Said) -> Iterator[Callable[..., Read]]:
    from live import live_server

    with live_server(examples["model"], Limits(seconds=20), header_seconds=2.0) as server:

        def one(rng: random.Random) -> Read:
            data = _request(examples["pictures"], rng)
            return lambda: _asked(server.port, data)

        yield one


def _asked(port: int, data: bytes) -> Outcome:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        reply = b""
        try:
            connection.sendall(data)
            connection.settimeout(1)
            with suppress(TimeoutError):  # the server waits for more
                reply = connection.recv(1 << 16)
            if not reply:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(25)
            while part := connection.recv(1 << 16):
                reply += part
        except TimeoutError:
            return Outcome("time", f"no end of {reply[:200]!r} for {data[:300]!r}")
        except OSError:  # closed before it had read everything
            pass
    found = re.match(rb"HTTP/1\.1 (\d+) ", reply)
    status = int(found[1]) if found else 0
    if status >= 500 and not (status == 503 and b"retry-after" in reply.lower()):
        return Outcome("traceback", f"{status} for {data[:300]!r}")
    return Outcome("answered" if status == 200 else "refused", reply[:80].decode("latin-1"))


def _request(files: dict[str, bytes], rng: random.Random) -> bytes:
    path = rng.choice(_PATHS[:2] * 8 + _PATHS)
    body = _body(files, path, rng)
    method = rng.choice(
        ("POST",) * 12 + ("GET", "PUT", "HEAD", "OPTIONS", "\xff", "TRACE", "p" * 9000)
    )
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 3)):
            kind = rng.randrange(3)
            if kind == 0:
                del head[rng.randrange(len(head))]
            elif kind == 1:
                head.insert(rng.randint(1, len(head)) if head else 0, rng.choice(_HEADS))
            else:
                body = body[: len(body) // 2]
    data = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body
    return mutated(data, rng, 2) if rng.random() < 0.15 else data


MEDIA = (
    "image/png", "application/dicom", "application/octet-stream", "image/\x1b[31m", "text/html",
)  # fmt: skip
ELSEWHERE = (
    "file:///etc/passwd", "http://127.0.0.1:1/x.png", "data:", "data:image/png;base64,====",
    "data:image/png,%00",
)  # fmt: skip
OPTIONS = (
    "max_tokens", "attention", "n", "stream_options", "temperature", "logprobs", "model",
)  # fmt: skip
DEEP = (b"[" * 100_000, b'{"messages": ' + b"[" * 900 + b"]" * 900 + b"}", b"[{}," * 10**5)


def _body(files: dict[str, bytes], path: str, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return rng.choice((*DEEP, *NASTY))
    name = rng.choice(sorted(files))
    data = files[name] if rng.random() < 0.5 else pictures.injured(name, files[name], rng)
    url = f"data:{rng.choice(MEDIA)};base64," + base64.b64encode(data).decode()
    if rng.random() < 0.1:
        url = rng.choice(ELSEWHERE)
    tree = _of_picture(url, rng) if path == "/picture" else _of_question(url, rng)
    for option in OPTIONS:
        if rng.random() < 0.08:
            tree[option] = rng.choice(VALUES)
    text = json.dumps(tree).encode()
    if rng.random() < 0.5:  # the picture is what is hostile
        return text
    try:
        return either(text, json.loads(text), lambda changed: json.dumps(changed).encode(), rng)
    except (RecursionError, ValueError):
        return b"{"


def _of_question(url: str, rng: random.Random) -> dict[str, Any]:
    asked = rng.choice(("is it?", "?" * 5000, "\ud800", "\x00", "[/b]", ""))
    content = [{"type": "text", "text": asked}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": content}], "stream": rng.random() < 0.2}


def _of_picture(url: str, rng: random.Random) -> dict[str, Any]:
    return {
        "file": url,
        "name": rng.choice(("x", "\x1b[31m", "../x", "\ud800")),
        "frame": rng.choice((0, 10**30, -1)),
        "window": rng.choice(([1, 2], [1e308, 1e308], [0, 0], None)),
        "axis": rng.choice((0, 2, 3)),
    }
