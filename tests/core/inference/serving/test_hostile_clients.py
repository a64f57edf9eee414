"""What clients that mean no good, or programs that expect OpenAI's answers, get from the server."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import logging
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from live import Live, body, data_url, live_server, messages, png, wait_for

from biod2c_core.inference.serving import app
from biod2c_core.inference.serving.connections import QuietErrors, most_connections
from biod2c_core.inference.serving.requests import Limits, RefusedError, parse_chat


@pytest.fixture(scope="module")
def live(checkpoint: Path) -> Iterator[Live]:
    with live_server(checkpoint, most=8, header_seconds=0.5) as running:
        yield running


def ask(
    live: Live, data: bytes | None, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, Any]:
    named = {"Content-Type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(live.url + path, data, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_half_open_connections_are_closed_and_only_so_many_are_kept(live: Live) -> None:
    waiting = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(8)]
    for each in waiting[:4]:
        each.sendall(b"GET / HT")  # the other half says nothing at all
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", live.port)) as further:
        further.settimeout(30)
        assert further.recv(1000).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: ")
    for each in waiting:
        each.settimeout(30)
        assert each.recv(1000) == b""
        each.close()
    assert time.monotonic() - began < 20
    assert ask(live, body())[0] == 200


def test_an_idle_connection_must_not_begin_a_second_request_and_wait(live: Live) -> None:
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.settimeout(30)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(1000)
        connection.sendall(b"GET /hea")
        while connection.recv(1000):
            pass


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/picture"])
@pytest.mark.parametrize("sent", [b"", b'{"messages": '])
def test_a_client_that_goes_before_its_body_is_there_is_refused_not_a_fault(
    live: Live, path: str, sent: bytes
) -> None:
    """What is no refusal is a traceback a client, and a log that nobody reads fills its pipe."""

    def gone() -> float:
        with urllib.request.urlopen(f"{live.url}/metrics", timeout=60) as reply:
            found = re.search(rb'requests_total{status="499"} (\S+)', reply.read())
        return float(found[1]) if found else 0.0

    before = gone()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + sent)
    wait_for(lambda: gone() == before + 1)


@pytest.mark.parametrize("media", ["text/plain", "text/json", "application/jsonp", ""])
def test_only_json_is_read(live: Live, media: str) -> None:
    """A form of another site can send text/plain without asking the browser's leave."""
    assert ask(live, body(), Content_Type=media)[0] == 415


def test_pages_of_other_sites_may_not_ask(live: Live) -> None:
    own = live.url
    assert ask(live, body(), Origin=own)[0] == 200
    for origin in ("http://evil.example", "null", own + "0"):
        status, reply = ask(live, body(), Origin=origin)
        assert (status, reply["error"]["code"]) == (403, "foreign_origin")


def test_json_may_say_its_character_set(live: Live) -> None:
    assert ask(live, body(), Content_Type="application/json; charset=utf-8")[0] == 200


def test_usage_counts_real_tokens(live: Live) -> None:
    client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)
    reply = client.chat.completions.create(model="tiny", messages=messages("is it?"))  # type: ignore[arg-type]
    model, processor = live.engine.answerer.model, live.engine.answerer.processor
    expected = model.config.num_visual_tokens + len(processor.prompt_ids("is it?"))
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == expected
    assert reply.usage.total_tokens == expected + reply.usage.completion_tokens
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=messages("is it?"),  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage == reply.usage
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="'other' is not here, this is 'tiny'"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"max_tokens": 0}, "max_tokens must be a positive"),
        ({"max_completion_tokens": 0}, "max_tokens must be a positive"),
        ({"logprobs": True}, "logprobs are not given"),
        ({"top_logprobs": 3}, "logprobs are not given"),
        ({"stream_options": {"include_usage": True}}, "only with stream"),
        ({"stream": True, "stream_options": 3}, "must be an object"),
    ],
)
def test_what_cannot_be_had_is_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as caught:
        parse_chat(body(**more), Limits(), "tiny")
    assert caught.value.status == 400
    parse_chat(body(logprobs=False, top_logprobs=0, max_tokens=None), Limits(), "tiny")


def test_base64_may_come_in_lines() -> None:
    lines = base64.encodebytes(png() * 3).decode()
    assert "\n" in lines
    assert parse_chat(body(url=f"data:image/png;base64,{lines}"), Limits(), "t").images == (
        png() * 3,
    )
    assert parse_chat(body(url=data_url(png())), Limits(), "t").images == (png(),)


def test_decoding_counts_against_the_deadline(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(*_: Any) -> Any:
        go.wait(60)
        raise RefusedError(400, "late", "late")

    monkeypatch.setattr(app, "decode_image", slow)
    monkeypatch.setattr(app, "make_picture", slow)
    shown = json.dumps({"file": data_url(png())}).encode()
    with live_server(checkpoint, Limits(seconds=0.5)) as running:
        statuses: list[int] = []

        def send(*given: Any) -> None:
            statuses.append(ask(running, *given)[0])

        threads = [
            threading.Thread(target=send, args=given)  # two that decode, two that wait for it
            for given in [(body(),), (shown, "/picture")] * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        go.set()
    assert statuses == [503] * 4


def test_a_server_that_ends_answers_and_says_nothing(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), live_server(checkpoint) as running:
        slow = socket.create_connection(("127.0.0.1", running.port))
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode())
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(ask(running, body())[0]))
        thread.start()
        wait_for(lambda: running.count("questions_total") or running.engine.length)
    thread.join(60)
    slow.close()
    assert statuses in ([200], [503])
    assert not [record for record in caplog.records if record.exc_info]


def test_running_out_of_files_is_one_line() -> None:
    lines: list[str] = []
    handler, loop = QuietErrors(lines.append), asyncio.new_event_loop()
    for _ in range(1000):
        handler(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "too many")})
    loop.close()
    assert len(lines) == 1
    assert 4 <= most_connections() <= 1000
