"""Timed figures of gen-qa and the text queue, against a scripted endpoint in a process of its own.

    python benchmarks/gen_qa.py throughput          # 64 in flight at 1 s latency: requests/s
    python benchmarks/gen_qa.py limit               # 300 requests/min: most in any 60 s, as received
    python benchmarks/gen_qa.py queue [--knowledge FILE ...] [--captions 100000]

The parity tests are tests/core/llm_api and tests/core/curation; run them first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from biod2c_core.curation.gen_qa import GenerationSettings, generate_pairs
from biod2c_core.curation.retrieval import Knowledge, captions_as_entries, load_entries
from biod2c_core.curation.text_queue import QueueBuilder
from biod2c_core.data.records import Record
from biod2c_core.llm_api import Client, Journal, Limiter

LATENCY = 1.0
IN_FLIGHT = 64
SIZES = ("", "small ", "large ", "2 cm ", "ill-defined ", "rounded ")
LESIONS = (
    "mass",
    "nodule",
    "cyst",
    "opacity",
    "effusion",
    "fracture",
    "stenosis",
    "aneurysm",
    "haematoma",
    "abscess",
    "polyp",
)
ORGANS = (
    "liver",
    "lung",
    "kidney",
    "spleen",
    "brain",
    "retina",
    "colon",
    "femur",
    "aorta",
    "thyroid",
    "breast",
    "pancreas",
)
SCANS = (
    "CT",
    "MRI",
    "ultrasound",
    "radiograph",
    "PET",
    "angiography",
    "histology",
    "endoscopy",
    "mammography",
)
SIGNS = (
    "oedema",
    "necrosis",
    "calcification",
    "enhancement",
    "displacement",
    "thickening",
    "invasion",
    "fibrosis",
)


@contextmanager
def endpoint(folder: Path, latency: float) -> Iterator[tuple[str, Path]]:
    """The fake endpoint as its own process: base URL and log."""
    log = folder / "endpoint.log"
    command = [sys.executable, "-m", "biod2c_core.testing", "--port", "0"]
    command += ["--latency", str(latency), "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), log
    process.kill()


def arrivals(log: Path) -> list[float]:
    """When requests reached the endpoint, in seconds."""
    events = map(json.loads, log.read_text().splitlines())
    return sorted(event["time"] for event in events if event["event"] == "received")


async def ask(folder: Path, url: str, count: int, limiter: Limiter) -> None:
    """Generate pairs for ``count`` records with one photograph-like image of 512 x 512."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((512, 512)).save(folder / "i.jpg")
    records = [
        Record(str(n), "i.jpg", "Describe the image.", caption=f"A mass, case {n}.")
        for n in range(count)
    ]
    settings = GenerationSettings("gpt-4o", folder)
    with Journal(folder / f"journal-{count}.jsonl") as journal:
        client = Client(
            "gpt-4o", url, "any", limiter=limiter, journal=journal, max_in_flight=IN_FLIGHT
        )
        async with client:
            await generate_pairs(records, client, settings, {}, IN_FLIGHT, lambda _: None)


def throughput(folder: Path, seconds: int) -> None:
    """Requests per second at the endpoint, start-up and run-out left out."""
    with endpoint(folder, LATENCY) as (url, log):
        asyncio.run(ask(folder, url, IN_FLIGHT * (seconds + 10), Limiter()))
        times = np.array(arrivals(log))
    start = times[0] + 5
    inside = times[(times >= start) & (times < start + seconds)]
    print(f"{len(inside) / seconds:.1f} requests/s over {seconds} s ({IN_FLIGHT} in flight)")


def limit(folder: Path, per_minute: int, count: int) -> None:
    """The most requests that reached the endpoint in any window of 60 s."""
    with endpoint(folder, 0.2) as (url, log):
        asyncio.run(ask(folder, url, count, Limiter(per_minute)))
        times = np.array(arrivals(log))
    most = max(int(((times >= t) & (times < t + 60)).sum()) for t in times)
    rate = (len(times) - 1) / (times[-1] - times[0]) * 60
    print(
        f"limit {per_minute}/min: most in any 60 s {most}, mean rate {rate:.0f}/min, {count} sent"
    )


def caption(chance: random.Random) -> str:
    """One of billions of captions, of about 35 words."""
    pick = chance.choice
    first, second, third = (
        f"{pick(SIZES)}{pick(LESIONS)} in the {pick(('left', 'right', 'upper'))} {pick(ORGANS)}"
        for _ in range(3)
    )
    return (
        f"Axial {pick(SCANS)} of a {chance.randint(1, 99)}-year-old patient showing a {first} (arrow) "
        f"with {pick(SIGNS)} of the {pick(ORGANS)}, and a {second} with {pick(SIGNS)}. "
        f"{pick(SCANS)} after {chance.randint(2, 30)} months demonstrates {pick(SIGNS)} and a {third}."
    )


def queue(captions: int, knowledge: list[str]) -> None:
    """Queues for that many captions, topped up from FILEs, or from the captions themselves."""
    chance = random.Random(0)
    records = [
        Record(str(n), f"{n}.jpg", "Describe the image.", caption=caption(chance))
        for n in range(captions)
    ]
    wall, cpu = time.perf_counter(), time.process_time()
    entries = [entry for file in knowledge for entry in load_entries(file)]
    entries = entries or captions_as_entries(record.caption for record in records)
    builder = QueueBuilder(records, Knowledge(entries))
    for record in records:
        builder.build(record)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    words = sum(len(record.caption.split()) for record in records) / captions
    print(
        f"{captions:,} captions of {words:.0f} words, knowledge base of {len(entries):,} entries:"
    )
    print(f"{wall:.0f} s wall, {cpu:.0f} s of one core; {builder.report}")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["throughput", "limit", "queue"])
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--requests", type=int, default=700)
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--knowledge", nargs="*", default=[])
    options = parser.parse_args()
    os.environ.pop("OPENAI_BASE_URL", None)
    with tempfile.TemporaryDirectory() as name:
        if options.what == "throughput":
            throughput(Path(name), options.seconds)
        elif options.what == "limit":
            limit(Path(name), options.limit, options.requests)
        else:
            queue(options.captions, options.knowledge)


if __name__ == "__main__":
    main()
