"""Serve the fake endpoint: ``python -m biod2c_core.testing --port 8900 --latency 1``."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

from biod2c_core.testing.scripted_endpoint import FakeEndpoint, default_reply


def main() -> None:
    """Serve from the command line; prints the base URL."""
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible endpoint.")
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--faults", type=float, default=0.0, help="share of answers that fail")
    parser.add_argument("--rpm", type=int, help="requests per minute, 429 beyond")
    parser.add_argument("--plain", action="store_true", help="no structured output")
    parser.add_argument("--reply", type=Path, help="file with the text of every answer")
    parser.add_argument(
        "--batch-seconds", type=float, default=5.0, help="until a batch is completed"
    )
    parser.add_argument("--log", type=Path, help="JSONL file for the requests")
    options = parser.parse_args()
    endpoint = FakeEndpoint(
        reply=options.reply.read_text("utf-8") if options.reply else default_reply,
        fault_rate=options.faults,
        latency=options.latency,
        requests_per_minute=options.rpm,
        structured=not options.plain,
        batch_seconds=options.batch_seconds,
        log=options.log,
    )

    async def serve() -> None:
        serving = asyncio.create_task(endpoint.serve(options.port))
        while endpoint.port == 0 and not serving.done():
            await asyncio.sleep(0.01)
        if endpoint.port:
            print(endpoint.base_url, flush=True)
        await serving

    with suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
