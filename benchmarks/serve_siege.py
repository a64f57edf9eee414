"""What ``biod2c serve`` keeps of its throughput while others mean it harm.

    python benchmarks/serve_siege.py [--clients 200] [--seconds 60] [--rounds 2] [--requests 5000]

The same honest clients ask in peace and under siege, in turn. Under siege 500 connections stay half open,
20 clients send JPEGs of thousands of scans, and as many malformed requests come as a tenth of the honest
ones. Then so many further requests are answered, while the memory is watched. It fails if less than 80 %
of the throughput is left, a 5xx comes that is not a 503 with ``Retry-After``, a bomb is answered with
anything but 4xx, or the memory grows by more than a tenth over the second half of the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import struct
import sys
import time
from collections import Counter
from statistics import median

from serve_load import GROWTH, MALFORMED, Outcome, bodies, counter, memory, post, server

HALF_OPEN, BOMBS, SCANS = 500, 20, 4000
LEAST_KEPT = 0.8
SAMPLES = 20  # of memory over the further requests


def bomb() -> bytes:
    """A request with a legal progressive JPEG of 4,000 scans over 2,000 x 2,000 pixels, 10 kB each."""
    side = 2000
    blocks = ((side + 7) // 8) ** 2

    def segment(marker: int, body: bytes) -> bytes:
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body

    head = segment(0xDB, b"\0" + bytes([1] * 64))
    head += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    head += segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")
    head += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes((blocks + 7) // 8)
    again = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + bytes(10)
    data = b"\xff\xd8" + head + first + again * SCANS + b"\xff\xd9"
    url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()


async def honest(port: int, number: int, until: float, seen: Outcome) -> None:
    """Ask again and again; wait when told to try later."""
    good = bodies()
    while time.monotonic() < until:
        number += 1
        status, retry = await post(port, good[number % len(good)])
        keep(seen, status, retry)
        await asyncio.sleep(min(retry or 0, max(0.0, until - time.monotonic())))


def keep(seen: Outcome, status: int, retry: int | None) -> None:
    """Count a status, and what must not be."""
    seen.statuses[status] += 1
    if (status >= 500 and status != 503) or (status in (429, 503) and retry is None):
        seen.faults.append(f"status {status}, Retry-After: {retry}")


async def half_open(port: int, until: float) -> None:
    """Connect, send half a header, wait; again when the server has hung up."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-")
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(reader.read(1), max(0.1, until - time.monotonic()))
            writer.close()
        await asyncio.sleep(0.5)


async def send(
    port: int, kinds: tuple[bytes, ...], pause: float, until: float, seen: Outcome
) -> None:
    """Send what must be refused, over and over."""
    turn = 0
    while time.monotonic() < until:
        turn += 1
        with contextlib.suppress(OSError, IndexError, ValueError):  # hung up on: that is an answer
            status, retry = await post(port, kinds[turn % len(kinds)])
            keep(seen, status, retry)
            if status == 200:
                seen.faults.append("what must be refused was answered")
        await asyncio.sleep(pause)


async def minute(port: int, clients: int, seconds: float, siege: bool, rate: float) -> Outcome:
    """Honest clients for a while, alone or not; ``rate`` malformed requests a second."""
    start = time.monotonic()
    until, seen, refused = start + seconds, Outcome(), Outcome()
    work = [honest(port, number, until, seen) for number in range(clients)]
    if siege:
        work += [half_open(port, until) for _ in range(HALF_OPEN)]
        work += [send(port, (bomb(),), 1.0, until, refused) for _ in range(BOMBS)]
        work += [send(port, MALFORMED, 1 / rate, until, refused)]
    await asyncio.gather(*work)
    seen.seconds = time.monotonic() - start
    seen.faults += refused.faults
    name = "siege" if siege else "peace"
    print(f"{name}: {seen.throughput:.2f} answers/s, {dict(sorted(seen.statuses.items()))}"
          + (f"; refused {dict(sorted(refused.statuses.items()))}" if siege else ""), flush=True)  # fmt: skip
    return seen


async def many(port: int, process: object, requests: int) -> tuple[list[float], Counter[int]]:
    """So many requests by eight clients, the memory taken now and then."""
    good, statuses, sizes = bodies(), Counter[int](), []
    waiting = iter(range(requests))

    async def worker() -> None:
        for number in waiting:
            status, retry = await post(port, good[number % len(good)])
            statuses[status] += 1
            if number % (requests // SAMPLES) == 0:
                sizes.append(memory(process))  # type: ignore[arg-type]
            await asyncio.sleep(retry or 0)

    await asyncio.gather(*(worker() for _ in range(8)))
    return sizes, statuses


def main() -> None:
    """Measure, print, and fail on a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=5000)
    given = parser.parse_args()
    peace: list[Outcome] = []
    siege: list[Outcome] = []
    with server(None) as (process, port):
        asyncio.run(minute(port, 2, 3, False, 1))  # warm up
        for _ in range(given.rounds):
            peace.append(asyncio.run(minute(port, given.clients, given.seconds, False, 1)))
            rate = max(1.0, peace[-1].throughput / 10)
            siege.append(asyncio.run(minute(port, given.clients, given.seconds, True, rate)))
        kept = median(s.throughput for s in siege) / median(p.throughput for p in peace)
        print(f"kept {kept:.2f} of the throughput")
        sizes, statuses = asyncio.run(many(port, process, given.requests))
        print(
            f"{given.requests} requests: {dict(statuses)}, MiB {', '.join(f'{s:.0f}' for s in sizes)}"
        )
        left = counter(port, "queue_length")
    faults = [fault for each in peace + siege for fault in each.faults]
    faults += ["less than 80 % of the throughput is left"] if kept < LEAST_KEPT else []
    faults += ["the memory grows"] if sizes[-1] > GROWTH * sizes[len(sizes) // 2] else []
    faults += ["jobs are left in the queue"] if left else []
    if faults:
        sys.exit(f"{len(faults)} faults, the first: {faults[0]}")


if __name__ == "__main__":
    main()
