"""What ``biod2c serve`` does under load: 200 clients for a minute, every tenth request malformed.

    python benchmarks/serve_load.py [--clients 200] [--seconds 60] [--rounds 2] [--model CHECKPOINT]

Starts the server as its own process. One client that asks alone and all of them at once take turns; every
twentieth request of the many is dropped by its client before the answer. Clients wait as long as a
``Retry-After`` says. Printed are the answers by status, the throughput against one at a time, and the
server's memory. It fails if a 5xx other than 503 comes, a 429 or 503 lacks ``Retry-After``, a malformed
request gets another answer than 4xx, the place of a dropped request is not freed, or the memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import mean

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
IMAGES = ("chest_xray.jpg", "head_ct.jpg", "abdomen_mri.jpg")
QUESTIONS = ("What imaging modality is this?", "What organ is shown?", "Is there a fracture?")
MALFORMED = (
    b"{",
    b'{"messages": [{"role": "user", "content": "no image"}]}',
    b'{"messages": [{"role": "user", "content": [{"type": "image_url", '
    b'"image_url": {"url": "http://127.0.0.1/x.png"}}]}]}',
    b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "is it?"}, '
    b'{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]}',
)
GROWTH = 1.1  # of memory from halfway through the first minute of load to the end of the last
SAMPLES = 6  # of memory in each minute of load


@dataclass
class Outcome:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    dropped: int = 0
    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds


@lru_cache(maxsize=1)
def bodies() -> list[bytes]:
    """Good requests: each image with each question."""
    made = []
    for name in IMAGES:
        url = "data:image/jpeg;base64," + base64.b64encode((EXAMPLES / name).read_bytes()).decode()
        for question in QUESTIONS:
            image = {"type": "image_url", "image_url": {"url": url}}
            content = [{"type": "text", "text": question}, image]
            made.append(json.dumps({"messages": [{"role": "user", "content": content}]}).encode())
    return made


async def post(port: int, body: bytes, drop: bool = False) -> tuple[int, int | None]:
    """Status and Retry-After in seconds; (0, None) where the client hangs up instead of reading."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        if drop:
            return 0, None
        reply = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    retry = re.search(rb"\r\nretry-after: (\d+)\r\n", reply.split(b"\r\n\r\n")[0].lower() + b"\r\n")
    return int(reply.split(b" ", 2)[1]), int(retry[1]) if retry else None


async def client(port: int, number: int, until: float, alone: bool, seen: Outcome) -> None:
    """Ask again and again; wait when told to try later."""
    good, turn = bodies(), number
    while time.monotonic() < until:
        turn += 1
        malformed, drop = not alone and turn % 10 == 0, not alone and turn % 20 == 5
        body = MALFORMED[turn // 10 % len(MALFORMED)] if malformed else good[turn % len(good)]
        status, retry = await post(port, body, drop)
        if drop:
            seen.dropped += 1
            continue
        seen.statuses[status] += 1
        if malformed and not 400 <= status < 500:
            seen.faults.append(f"malformed request answered with {status}")
        if (status >= 500 and status != 503) or (status in (429, 503) and retry is None):
            seen.faults.append(f"status {status}, Retry-After: {retry}")
        await asyncio.sleep(min(retry or 0, max(0.0, until - time.monotonic())))


async def watch(process: subprocess.Popen[str], seconds: float, seen: Outcome) -> None:
    """Take the server's memory now and then."""
    for _ in range(SAMPLES):
        await asyncio.sleep(seconds / SAMPLES)
        seen.memory.append(memory(process))


async def load(process: subprocess.Popen[str], port: int, clients: int, seconds: float) -> Outcome:
    """Run clients side by side; a single one sends good requests only."""
    seen, start = Outcome(), time.monotonic()
    work = [client(port, i, start + seconds, clients == 1, seen) for i in range(clients)]
    await asyncio.gather(watch(process, seconds, seen), *work)
    seen.seconds = time.monotonic() - start
    return seen


@contextmanager
def server(model: str | None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port."""
    line = [sys.executable, "-m", "biod2c_cli", "serve", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        line + (["--model", model] if model else []), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        for text in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", text):
                yield process, int(found[1])
                return
        sys.exit("the server did not start")
    finally:
        process.terminate()
        process.wait()


def memory(process: subprocess.Popen[str]) -> float:
    """Resident MiB of the server (Linux)."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def counter(port: int, name: str) -> float:
    """What a counter of the server holds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
        found = re.search(rf"^biod2c_{name} (\S+)$", reply.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def report(alone: list[Outcome], crowd: list[Outcome]) -> list[str]:
    """Print the figures; returns what went wrong."""
    statuses = sum((each.statuses for each in crowd), Counter[int]())
    print(f"statuses {dict(sorted(statuses.items()))}, dropped {sum(c.dropped for c in crowd)}")
    for index, each in enumerate(crowd):
        single = mean(other.throughput for other in alone[index : index + 2])
        sizes = ", ".join(f"{size:.0f}" for size in each.memory)
        print(
            f"one at a time {single:.2f} answers/s, many {each.throughput:.2f}: "
            f"{each.throughput / single:.1f}x; memory {sizes} MiB"
        )
    faults = [fault for each in crowd + alone for fault in each.faults]
    if crowd[-1].memory[-1] > GROWTH * crowd[0].memory[SAMPLES // 2]:
        faults.append("the memory grows")
    return faults


def main() -> None:
    """Measure, print, and fail on a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", help="checkpoint; by default the embedded biod2c-tiny")
    arguments = parser.parse_args()
    alone, crowd = [], []
    with server(arguments.model) as (process, port):
        asyncio.run(load(process, port, 2, 3))  # warm up
        for _ in range(arguments.rounds):
            alone.append(asyncio.run(load(process, port, 1, arguments.seconds / 4)))
            crowd.append(asyncio.run(load(process, port, arguments.clients, arguments.seconds)))
        alone.append(asyncio.run(load(process, port, 1, arguments.seconds / 4)))
        left, given_up = counter(port, "queue_length"), counter(port, "cancelled_total")
    faults = report(alone, crowd)
    print(f"requests given up by the server {given_up:.0f}, waiting at the end {left:.0f}")
    if left or not given_up:
        faults.append("the places of dropped requests were not freed")
    if faults:
        sys.exit(f"{len(faults)} faults, the first: {faults[0]}")


if __name__ == "__main__":
    main()
