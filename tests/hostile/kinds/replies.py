"""Replies of an endpoint to ``gen-qa`` and the judge: heads, packing, bodies, texts, results of batches."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from children import Read, Said, outcome_of_call, outcome_of_command
from mutations import NASTY, VALUES, either, mutated
from PIL import Image

from biod2c_core.curation.qa_parsing import parse_pairs
from biod2c_core.llm_api import CallFailed, Client, Journal, Price, client
from biod2c_core.llm_api.batch import Batches, BatchRequest

_PAIRS = {"pairs": [{"question": "What organ is shown here?", "answer": "the chest"}] * 2}
_TEXTS = (
    json.dumps(_PAIRS), '{"score": 7, "reason": "fine"}', "Question: what?\nAnswer: a lung.", "```json\n{}\n```", "",  # noqa: E501
    "[" * 100_000, '{"a":' * 50_000, "<think>" * 50_000, '"question": "' * 20_000, "Q1. x? " * 9000, "\\" * 60_000,  # noqa: E501
    "A: [[9]] \ud800 \x1b[31m [/b] =1+1", "score: " + "9" * 5000, "*" * 60_000, "\n- " * 30_000, "7", "1e999",
)  # fmt: skip
_USAGE = (
    {},
    None,
    [],
    {"prompt_tokens": 1e999},
    {"prompt_tokens": 10**400, "completion_tokens": -1},
)


class Handler(BaseHTTPRequestHandler):
    """Plays what the server was given."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        with suppress(OSError, ValueError):
            self.rfile.read(int(self.headers["Content-Length"] or 0))  # GET has none
            self.connection.sendall(self.server.reply)
            self.close_connection = True

    do_GET = do_POST  # noqa: N815


def prepare(folder: Path) -> dict[str, Any]:
    """Captions and predictions to ask about."""
    Image.new("RGB", (9, 7), "red").save(folder / "x.jpg")
    row = {
        "image": "x.jpg",
        "question": "what?",
        "answer": "a lung",
        "split": "test",
        "caption": "A chest film.",
    }
    (folder / "records.jsonl").write_text(
        "".join(json.dumps({**row, "id": n}) + "\n" for n in "01")
    )
    (folder / "answers.jsonl").write_text(
        "".join(json.dumps({"id": n, "answer": "a"}) + "\n" for n in "01")
    )
    return {"records": folder / "records.jsonl", "answers": folder / "answers.jsonl"}


def begin(examples: dict[str, Any], folder: Path, said: Said) -> Iterator[Callable[..., Read]]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.reply = b""
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    for name, seconds in (("_FIRST_BACKOFF", 0.001), ("_LONGEST_WAIT", 0.01), ("_PATIENCE", 0.05)):
        setattr(client, name, seconds)  # a real endpoint may have us wait

    def one(rng: random.Random) -> Read:
        server.reply = _reply(rng)
        place = folder / "out"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        way = rng.random()
        if way < 0.5:
            return lambda: outcome_of_call(lambda: asyncio.run(_complete(url, place)))
        if way < 0.6:
            text = rng.choice(_TEXTS) * rng.choice((1, 3))
            return lambda: outcome_of_call(lambda: parse_pairs(text[rng.randrange(9) :]))
        if way < 0.7:
            return lambda: outcome_of_call(lambda: asyncio.run(_collect(url, place)))
        if way < 0.85:
            command: list[Any] = [
                "gen-qa",
                examples["records"],
                "-o",
                place / "qa.jsonl",
                "--base-url",
                url,
            ]
            return lambda: outcome_of_command(
                [*command, "--timeout", "2", "--in-flight", "2"], said
            )
        command = [
            "evaluate",
            examples["records"],
            "--predictions",
            examples["answers"],
            "-o",
            place / "run",
        ]
        return lambda: outcome_of_command([*command, "--judge", "gpt-4o", "--base-url", url], said)

    try:
        yield one
    finally:
        server.shutdown()


async def _complete(url: str, folder: Path) -> None:
    with Journal(folder / "j.jsonl") as journal:
        price = Price(1, 2)
        options: dict[str, Any] = {
            "journal": journal,
            "price": price,
            "timeout": 2.0,
            "max_attempts": 2,
        }
        async with Client("m", url, "key", **options) as asked:
            with suppress(CallFailed):
                answer = await asked.complete([{"role": "user", "content": "?"}], key="k")
                with suppress(ValueError):
                    answer.json()
    with Journal(folder / "j.jsonl") as journal:
        assert journal.spent < 1.0


async def _collect(url: str, folder: Path) -> None:
    with Journal(folder / "j.jsonl") as journal:
        async with Client(
            "m", url, "key", journal=journal, price=Price(1, 2), timeout=2.0
        ) as asked:
            batches = Batches(asked, journal, folder / "batch.json")
            await batches.submit([BatchRequest("k", [{"role": "user", "content": "?"}])])
            await batches.collect()


def _reply(rng: random.Random) -> bytes:
    """Status line, headers and body."""
    message: Any = {"role": "assistant", "content": rng.choice(_TEXTS)}
    tree: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message}],
    }
    tree |= {"usage": rng.choice((*_USAGE, {"prompt_tokens": 9, "completion_tokens": 9}))}
    if rng.random() < 0.3:  # of a batch
        tree = {"id": "b", "object": "batch", "status": "completed", "output_file_id": "f", "custom_id": "k",
                "input_file_id": "f", "data": [], "has_more": True, "request_counts": {"completed": 1},
                "response": {"body": tree}, "metadata": {}}  # fmt: skip
    if rng.random() < 0.1:
        message["content"] = rng.choice(VALUES)
    try:
        body = json.dumps(tree).encode()
        if rng.random() < 0.6:
            body = either(body, tree, lambda t: json.dumps(t).encode(), rng)
    except (RecursionError, ValueError):
        body = b"{"
    if rng.random() < 0.05:
        body = rng.choice(
            (*NASTY, b"[" * 100_000, b"9" * 10**6, b"<html>", b"null", b'"' + b"x" * 10**6)
        )
    head = [
        "HTTP/1.1 "
        + rng.choice(
            ("200 OK",) * 9 + ("429 x", "500 x", "401 x", "307 x", "204 x", "999 x", "abc")
        )
    ]
    head += ["Content-Type: " + rng.choice(("application/json",) * 4 + ("text/html", "x" * 9000))]
    body = _packed(body, head, rng)
    length = rng.choice((len(body),) * 9 + (0, 5, -1, 10**12, "x"))
    head.append(f"Content-Length: {length}")
    if rng.random() < 0.15:
        head.append(
            rng.choice(
                (
                    "Retry-After: 1e999",
                    "Location: http://127.0.0.1:1/v1/x",
                    "Transfer-Encoding: chunked",
                    "x-ratelimit-reset-requests: " + "9" * 400 + "h",
                    "Set-Cookie: a=b; Domain=.",
                    "X: " + "y" * 90_000,
                    "\r\n".join(f"X{n}: y" for n in range(300)),
                    "X\x1b: [31m",
                    "Retry-After: -5",
                )
            )
        )
    data = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body
    return mutated(data, rng, 2) if rng.random() < 0.1 else data


def _packed(body: bytes, head: list[str], rng: random.Random) -> bytes:
    if rng.random() > 0.15:
        return body
    if rng.random() < 0.2:
        body = bytes(100 << 20)
    kind = rng.choice(("gzip", "deflate", "br", "gzip, gzip", "zstd", "identity"))
    head.append(f"Content-Encoding: {kind}")
    packed = {"gzip": lambda: gzip.compress(body, 6), "deflate": lambda: zlib.compress(body)}
    return packed.get(kind, lambda: body[: 1 << 20])()
