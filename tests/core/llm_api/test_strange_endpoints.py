"""An endpoint made by a stranger: bounded in bytes and time, sent nothing on, and nothing paid is lost."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from biod2c_core.errors import EndpointError
from biod2c_core.llm_api import CallFailed, Client, Completion, Journal, Price, http
from biod2c_core.llm_api.answers import journal_entry
from biod2c_core.llm_api.failures import retry_after
from biod2c_core.llm_api.http import is_loopback

MEBI = 2**20
Play = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays what the server was given, after reading the request."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        with suppress(OSError):
            self.server.play(self)

    def give(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def body(text: str = "fine", **fields: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message}], **fields}).encode()


@contextmanager
def serving(play: Play) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.play, server.asked = play, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask(server: Any, journal: Journal | None = None, **options: Any) -> Completion:
    async def run() -> Completion:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        options.setdefault("max_attempts", 2)
        async with Client("m", url, "key", journal=journal, price=Price(1, 2), **options) as client:
            return await client.complete([{"role": "user", "content": "?"}], key="k")

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biod2c_core.llm_api.client._FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(http, "MOST_BODY", MEBI)


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


BOMB = gzip.compress(b" " * (64 * MEBI), 9)


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (endless, "more than 1,048,576 bytes"),
        (lambda h: h.give(BOMB, Content_Encoding="gzip"), "more than 1,048,576 bytes"),
        (lambda h: h.give(zlib.compress(b" " * 2 * MEBI), Content_Encoding="deflate"), "more than"),
        (lambda h: h.give(b"x", Content_Encoding="br"), "packed as 'br'"),
        (lambda h: h.give(b"x", Content_Encoding="gzip"), "cannot be unpacked"),
        (lambda h: h.give(b"[" * 100_000), "nested too deeply"),
        (lambda h: h.give(b'{"choices":' + b"[" * 500 + b"]" * 500 + b"}"), "nested more than"),
        (lambda h: h.give(b'{"usage": ' + b"9" * 5000 + b"}"), "not JSON"),
        (lambda h: h.give(b'{"error": {"message": "x\\u001b[31m\\ud800"}}'), "holds no choice"),
    ],
)
def test_bodies_that_are_no_answer_fail_with_a_reason(play: Play, message: str) -> None:
    with serving(play) as server, pytest.raises(CallFailed, match=message) as caught:
        ask(server)
    assert len(server.asked) == 2
    str(caught.value).encode()
    assert "\x1b" not in str(caught.value)


def test_packed_answers_are_read() -> None:
    for packing, data in (("gzip", gzip.compress(body())), ("deflate", zlib.compress(body()))):
        with serving(lambda h, p=packing, d=data: h.give(d, Content_Encoding=p)) as server:  # type: ignore[misc]
            assert ask(server).text == "fine"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with serving(lambda h: h.give(body())) as other:
        target = f"http://localhost:{other.server_port}/v1/chat/completions"
        with (
            serving(lambda h: h.give(b"", status, Location=target)) as server,
            pytest.raises(EndpointError, match=r"it redirects to http://localhost.*not followed"),
        ):
            ask(server)
        assert other.asked == []


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**400, "completion_tokens": 1},
        {"prompt_tokens": 10**12, "completion_tokens": 1},
        {"prompt_tokens": float("inf"), "completion_tokens": float("nan")},
        {"prompt_tokens": None, "completion_tokens": -5},
        {"prompt_tokens": "7", "completion_tokens": [1]},
        [1, 2],
    ],
)
def test_absurd_usage_loses_no_answer(tmp_path: Path, usage: Any) -> None:
    with (
        serving(lambda h: h.give(body(usage=usage))) as server,
        Journal(tmp_path / "j.jsonl") as journal,
    ):
        answer = ask(server, journal)
        assert answer.text == "fine"
        assert answer.cost == pytest.approx(journal.spent)
        assert 0 < journal.spent < 0.01
    with Journal(tmp_path / "j.jsonl") as journal:
        assert ask(server, journal).cached


def test_headers_that_make_no_sense_lose_no_answer(tmp_path: Path) -> None:
    headers = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "9" * 400 + "h"}
    with (
        serving(lambda h: h.give(body(), **headers)) as server,
        Journal(tmp_path / "j.jsonl") as journal,
    ):
        assert ask(server, journal).text == "fine"


def test_half_a_character_in_an_answer_is_replaced_before_it_is_kept(tmp_path: Path) -> None:
    with (
        serving(lambda h: h.give(body("lung \ud800 \ud83d\ude00"))) as server,
        Journal(tmp_path / "j.jsonl") as journal,
    ):
        assert ask(server, journal).text == "lung \ufffd \U0001f600"
    with Journal(tmp_path / "j.jsonl") as journal:
        assert ask(server, journal).text == "lung \ufffd \U0001f600"


@pytest.mark.parametrize("status", [429, 503])
def test_a_day_s_wait_is_capped_and_announced(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("biod2c_core.llm_api.client._LONGEST_WAIT", 0.05)
    monkeypatch.setattr("biod2c_core.llm_api.client._PATIENCE", 0.2)
    with (
        serving(lambda h: h.give(b"{}", status, Retry_After="86400")) as server,
        caplog.at_level(logging.WARNING),
        pytest.raises(CallFailed),
    ):
        ask(server, max_attempts=3)
    assert "the endpoint asks to wait 86400 s; asking again in" in caplog.text


@pytest.mark.parametrize(
    "value", ["inf", "nan", "-inf", "1e999", "Fri, 31 Dec 9999 23:59:59 -2359", "x" * 10**6, ""]
)
def test_waits_that_are_no_number_are_none(value: str) -> None:
    wait = retry_after({"retry-after": value, "retry-after-ms": value})
    assert wait is None or 0 <= wait < 10**12


def test_a_proxy_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda h: h.give(body("from the proxy"))) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with serving(lambda h: h.give(body("direct"))) as server:
            assert ask(server).text == "direct"
        assert proxy.asked == []


def test_which_hosts_are_this_machine() -> None:
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost", "LOCALHOST."):
        assert is_loopback(f"http://{host}:80/v1")
    for host in ("api.openai.com", "localhost.evil.org", "10.0.0.1", "127.0.0.1.evil.org"):
        assert not is_loopback(f"https://{host}/v1")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"text": 7, "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "cost": 0.0},
        {"text": "x", "usage": None, "cost": 0.0},
        {"text": "x", "usage": {"prompt_tokens": 1}, "cost": 0.0},
        {"text": "x", "usage": {"prompt_tokens": 1, "completion_tokens": "1"}, "cost": 0.0},
        {"text": "x", "usage": {"a": 1, "b": 2, "prompt_tokens": 1}, "cost": 0.0},
    ],
)
def test_an_entry_that_cannot_be_used_is_set_aside(
    tmp_path: Path, entry: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.add({"key": "k", **entry})
    with (
        serving(lambda h: h.give(body())) as server,
        Journal(tmp_path / "j.jsonl") as journal,
        caplog.at_level(logging.WARNING),
    ):
        assert journal_entry(journal, "k") is None
        assert "cannot be used and is set aside" in caplog.text
        assert ask(server, journal).text == "fine"
        assert journal_entry(journal, "k") is not None
