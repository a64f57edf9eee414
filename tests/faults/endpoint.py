"""The scripted endpoint, and what it was asked: what would have been paid for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from running import end_with_parent

REPOSITORY = Path(__file__).resolve().parents[2]


class Endpoint:
    """What came in.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, url: str, log: Path) -> None:
        self.url, self._log = url, log

    def asked(self) -> int:
        """How many answers, single or in batches, were asked for so far."""
        time.sleep(0.05)  # it writes down what it has read
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        live = sum(json.loads(line)["event"] == "received" for line in lines)
        with build_opener(ProxyHandler({})).open(f"{self.url}/batches", timeout=20) as reply:
            batches = json.load(reply)["data"]
        return live + sum(batch["request_counts"]["total"] for batch in batches)


@contextmanager
def endpoint(folder: Path) -> Iterator[Endpoint]:
    """Serve; the file ``endpoint`` in the folder holds the URL."""
    log = folder / "endpoint.log"
    command = [sys.executable, "-m", "biod2c_core.testing", "--port", "0", "--latency", "0.03"]
    command += ["--batch-seconds", "0", "--log", str(log)]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=variables, preexec_fn=end_with_parent
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        (folder / "endpoint").write_text(url)
        try:
            yield Endpoint(url, log)
        finally:
            server.kill()
