"""An endpoint: bodies and waits without end, packed bombs, other origins, answers that are none."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import tiny_models
from children import CANARY

from strangers.trials import EITHER, HONEST, Command, Place, Stranger, Trick

Play = Callable[["Handler"], None]
_MEBI = 2**20
_CHAT = ("/chat/completions",)


def prepare(folder: Path) -> dict[str, Path]:
    """Captions to ask about, and answers to judge."""
    data = tiny_models.write_data(folder / "captions", 3, images=2)
    rows = [
        json.loads(line) | {"caption": "A film of a lung."}
        for line in data.read_text().splitlines()
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"id": row["id"], "answer": "a"} for row in rows]
    (folder / "captions/answers.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in answers)
    )
    return {"captions": data.parent, "answers": data.parent, "picture": folder / "captions/0.png"}


class Handler(BaseHTTPRequestHandler):
    """Reads a request, and does what is played."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        with suppress(OSError, ValueError):
            self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.server.play(self)

    do_GET = do_POST  # noqa: N815

    def honest(self) -> tuple[int, bytes]:
        """What the scripted endpoint behind this one says."""
        asked = http.client.HTTPConnection(self.server.behind, timeout=20)
        headers = {
            "Content-Type": self.headers["Content-Type"] or "",
            "Authorization": "Bearer any",
        }
        asked.request(self.command, self.path, self.body, headers)
        reply = asked.getresponse()
        return reply.status, reply.read()

    def give(self, body: bytes, status: int = 200, **headers: str) -> None:
        """A whole reply."""
        self.send_response(status)
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        for name, value in given.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    play: Play
    behind = ""

    def handle_error(self, *_: object) -> None:
        """Stay silent about clients that went away."""


_SERVERS: list[_Server] = []  # the one of this process


@contextmanager
def serve() -> Iterator[str]:
    """The stranger's endpoint; waits that a real one may ask for are short here."""
    from biod2c_core.llm_api import client
    from biod2c_core.llm_api import http as bounds
    from biod2c_core.testing.scripted_endpoint import FakeEndpoint

    for name, seconds in (("_FIRST_BACKOFF", 0.001), ("_LONGEST_WAIT", 0.01), ("_PATIENCE", 0.05)):
        setattr(client, name, seconds)
    bounds.MOST_BODY, bounds.MOST_FILE = 1 << 20, 4 << 20  # less to send, refused the same way
    with FakeEndpoint(batch_seconds=0) as behind, _Server(("127.0.0.1", 0), Handler) as server:
        server.behind = behind.base_url.partition("//")[2].partition("/")[0]
        _SERVERS[:] = [server]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def _played(play: Play) -> Callable[[Path], None]:
    return lambda _folder: setattr(_SERVERS[0], "play", play)


def _honest(handler: Handler) -> None:
    status, body = handler.honest()
    handler.give(body, status)


def _endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(1024):
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


def _drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def _raw(data: bytes) -> Play:
    def play(handler: Handler) -> None:
        handler.connection.sendall(data)
        handler.close_connection = True

    return play


def _elsewhere(folder: Path, status: int) -> None:
    """Sends the client to another origin, which leaves a mark if anything comes."""

    def mark(handler: Handler) -> None:
        (folder.parent / CANARY).touch()
        handler.give(b"{}")

    other = _Server(("127.0.0.1", 0), Handler)
    other.play = mark
    threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    place = f"http://localhost:{other.server_port}/v1/chat/completions"
    _SERVERS[0].play = lambda handler: handler.give(b"{}", status, Location=place)


def _changed(change: Callable[[dict[str, Any]], object]) -> Play:
    """Honest replies, each completion in them changed, single or in the results of a batch."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if "choices" in value:
                change(value)
            for inner in list(value.values()):
                walk(inner)
        return value

    def play(handler: Handler) -> None:
        status, body = handler.honest()
        with suppress(ValueError):
            lines = [json.dumps(walk(json.loads(line))) for line in body.decode().splitlines()]
            body = "\n".join(lines).encode()
        handler.give(body, status)

    return play


def _says(text: Any) -> Play:
    return _changed(lambda reply: reply["choices"][0]["message"].update(content=text))


def _batches(**changes: Any) -> Play:
    """Honest replies, but for what is said of files and batches."""

    def play(handler: Handler) -> None:
        status, body = handler.honest()
        with suppress(ValueError):
            reply = json.loads(body)
            if isinstance(reply, dict) and reply.get("object") in ("batch", "file", "list"):
                body = json.dumps({**reply, **changes}).encode()
        handler.give(body, status)

    return play


_PAIRS = json.dumps({"pairs": [{"question": "Q" * 9, "answer": "A"}] * 2})
_TEXTS: dict[str, Any] = {
    "no text": None, "a number": 7, "a list": [[]], "nothing": "", "brackets": "[" * 100_000,
    "objects": '{"a":' * 50_000, "thoughts": "<think>" * 50_000, "fields": '"question": "' * 20_000,
    "labels": "Q1. x? " * 9000, "strokes": "\\" * 60_000, "stars": "*" * 60_000, "items": "\n- " * 30_000,
    "scores": "score: " + "9" * 5000, "a million characters": "x" * 900_000,
    "what a terminal obeys": _PAIRS.replace("A", "\x1b[31m\u202e[/b]\x07"),
    "half a character": "\ud800 " + _PAIRS,
    "formulas": _PAIRS.replace("A", "=cmd|'/c calc'!A0"),
    "formats": _PAIRS.replace("Q", "{caption}{0.__class__}"),
    "dots": json.dumps({"pairs": [{"question": "." * 19_000 + "b", "answer": "." * 900 + "b"}]}),
    "many pairs": json.dumps(
        {"pairs": [{"question": f"What is seen at {n}?", "answer": "a mass"} for n in range(300)]}
    ),
    "infinity": '{"score": 1e999}', "not a number": '{"score": NaN, "reason": []}',
}  # fmt: skip
_USAGE: dict[str, Any] = {
    "usage of infinity": {"prompt_tokens": 1e999, "completion_tokens": 1e999},
    "usage beyond all bounds": {"prompt_tokens": 10**400, "completion_tokens": -1},
    "usage of no kind": [],
}
_PLAYS: dict[str, Play] = {
    "a body without end": _endless,
    "a gzip bomb": lambda h: h.give(_BOMB, Content_Encoding="gzip"),
    "a deflate bomb": lambda h: h.give(zlib.compress(bytes(8 * _MEBI)), Content_Encoding="deflate"),
    "a packing of its own": lambda h: h.give(b"x", Content_Encoding="br, gzip"),
    "no JSON": lambda h: h.give(b"<html>\x1b[31m</html>", Content_Type="text/html"),
    "brackets as a body": lambda h: h.give(b"[" * 100_000),
    "null": lambda h: h.give(b"null"),
    "digits without end": lambda h: h.give(b'{"usage": ' + b"9" * 10**6 + b"}"),
    "an error that a terminal obeys": lambda h: h.give(
        b'{"error": {"message": "x\\u001b[31m\\ud800 [/b]\\n\\nTrace (most"}}', 400
    ),
    "an error of 2 MB": lambda h: h.give(b'{"error": {"message": "' + b"x" * 2 * _MEBI + b'"}}', 400),
    "a wait without end": lambda h: h.give(b"{}", 429, Retry_After="1e999"),
    "a wait of a century": lambda h: h.give(b"{}", 503, Retry_After="3153600000"),
    "a wait of a day before": lambda h: h.give(b"{}", 429, x_ratelimit_reset_requests="9" * 400 + "h"),
    "a wrong key": lambda h: h.give(b'{"error": {"message": "sk-none is wrong"}}', 401),
    "nothing at all": _raw(b""),
    "not HTTP": _raw(b"SSH-2.0-OpenSSH_9.9\r\n" * 9),
    "a status of its own": _raw(b"HTTP/1.1 999 \x1b[31m\r\nContent-Length: 0\r\n\r\n"),
    "a header without end": _raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 900_000 + b"\r\n\r\n{}"),
    "headers without end": _raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n{}"),
    "a length below nothing": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "a length of a terabyte": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n{}"),
    "a chunk of an exabyte": _raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n{}"
    ),
    "no choices": _changed(lambda reply: reply.update(choices=[])),
    "choices of no kind": _changed(lambda reply: reply.update(choices={"a": 1})),
    "a message of no kind": _changed(lambda reply: reply["choices"][0].update(message=[7])),
    **{name: _changed(lambda reply, u=usage: reply.update(usage=u)) for name, usage in _USAGE.items()},
    **{f"says {name}": _says(text) for name, text in _TEXTS.items()},
    "a batch of another place": _batches(output_file_id="../../../etc/passwd", id="../../x"),
    "a batch of no state": _batches(status="\x1b[31mthem", request_counts={"total": 1e999}),
    "a list without end": _batches(has_more=True),
    "files of no kind": _batches(id=[7], data={"a": 1}),
    "results of brackets": lambda h: h.give(b"[" * 10**6 if "/content" in h.path else h.honest()[1]),
    "results of others": lambda h: h.give(h.honest()[1].replace(b"custom_id", b"custom\\u0000id")),
}  # fmt: skip
_BOMB = gzip.compress(bytes(64 * _MEBI), 9)


def _commands() -> tuple[Command, ...]:
    def generate(*words: object) -> Callable[[Place], list[object]]:
        return lambda place: [
            *("gen-qa", place.theirs / "records.jsonl", "-o", place.out / "qa.jsonl"),
            *("--base-url", place.url, "--timeout", "2", "--in-flight", "2", *words),
        ]

    def evaluate(*words: object, given: bool = True) -> Callable[[Place], list[object]]:
        return lambda place: [
            *(
                "evaluate",
                place.theirs / "records.jsonl",
                "--split",
                "all",
                "-o",
                place.out / "run",
            ),
            *(("--predictions", place.theirs / "answers.jsonl") if given else ()),
            *("--base-url", place.url, *words),
        ]

    submit = generate("--batch", "submit")
    asked, rated = ("gen-qa.base_url",), ("evaluate run.base_url",)
    return (
        Command("gen-qa", asked, generate(), "captions"),
        Command("gen-qa --batch submit", asked, submit, "captions", steady=False),
        Command("gen-qa --batch status", asked, generate("--batch", "status"), "captions", before=submit),
        Command("gen-qa --batch collect", asked, generate("--batch", "collect"), "captions", before=submit),
        Command("evaluate --judge", rated, evaluate("--judge", "gpt-4o"), "answers"),
        Command("evaluate --profile medevalkit-judge", rated,
                evaluate("--judge", "gpt-4o", "--profile", "medevalkit-judge"), "answers"),
        Command("evaluate -m openai:", rated, evaluate("-m", "openai:gpt-4o", given=False), "answers"),
    )  # fmt: skip


STRANGER = Stranger(
    prepare,
    (
        Trick(HONEST, _played(_honest)),
        *(Trick(name, _played(play)) for name, play in _PLAYS.items()),
        *(
            Trick(f"another origin by {status}", partial(_elsewhere, status=status), (), EITHER)
            for status in (301, 302, 307, 308)
        ),
        Trick("a body that drips", _played(_drip), ("captions",)),
    ),
    _commands(),
    serve,
)
