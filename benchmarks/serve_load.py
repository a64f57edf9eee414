"""What ``biod2c serve`` does under load: 200 clients for a minute, every tenth request malformed.

    python benchmarks/serve_load.py [--clients 200] [--seconds 60] [--model CHECKPOINT]

Starts the server as its own process. First one client asks alone, then all at once; printed are the
answers by status, the throughput against one at a time, and the server's memory before and after. It fails
if a 5xx other than 503 comes, a 429 or 503 lacks Retry-After, or a malformed request gets another answer
than 4xx.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class Outcome:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds


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


async def post(port: int, body: bytes) -> tuple[int, bool]:
    """Status, and whether there was a Retry-After."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        reply = await reader.read()
    finally:
        writer.close()
    return int(reply.split(b" ", 2)[1]), b"retry-after" in reply.split(b"\r\n\r\n")[0].lower()


async def client(port: int, number: int, until: float, malformed: bool, seen: Outcome) -> None:
    """Ask again and again; wait a little when told to try later."""
    good, turn = bodies(), number
    while time.monotonic() < until:
        turn += 1
        bad = malformed and turn % 10 == 0
        body = MALFORMED[turn // 10 % len(MALFORMED)] if bad else good[turn % len(good)]
        status, retry = await post(port, body)
        seen.statuses[status] += 1
        if bad and not 400 <= status < 500:
            seen.faults.append(f"malformed request answered with {status}")
        if (status >= 500 and status != 503) or (status in (429, 503) and not retry):
            seen.faults.append(f"status {status}, Retry-After: {retry}")
        if status in (429, 503):
            await asyncio.sleep(0.5)


async def load(port: int, clients: int, seconds: float, malformed: bool) -> Outcome:
    """Run clients side by side."""
    seen, start = Outcome(), time.monotonic()
    work = [client(port, i, start + seconds, malformed, seen) for i in range(clients)]
    await asyncio.gather(*work)
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


def main() -> None:
    """Measure, print, and fail on a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", help="checkpoint; by default the embedded biod2c-tiny")
    arguments = parser.parse_args()
    with server(arguments.model) as (process, port):
        asyncio.run(load(port, 2, 3, True))  # warm up
        alone = asyncio.run(load(port, 1, arguments.seconds / 4, False))
        middle = asyncio.run(load(port, arguments.clients, arguments.seconds / 2, True))
        halfway = memory(process)
        end = asyncio.run(load(port, arguments.clients, arguments.seconds / 2, True))
        after = memory(process)
        again = asyncio.run(load(port, 1, arguments.seconds / 4, False))
    single = max(alone.throughput, again.throughput)
    both = (middle.statuses[200] + end.statuses[200]) / (middle.seconds + end.seconds)
    print(f"statuses {dict(sorted((middle.statuses + end.statuses).items()))}")
    print(f"one at a time {single:.2f} answers/s, {arguments.clients} clients {both:.2f}/s", end="")
    print(f": {both / single:.1f}x")
    print(f"memory halfway {halfway:.0f} MiB, at the end {after:.0f} MiB")
    faults = middle.faults + end.faults
    if faults:
        sys.exit(f"{len(faults)} faults, the first: {faults[0]}")


if __name__ == "__main__":
    main()
