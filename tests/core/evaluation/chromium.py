"""A page in headless Chromium, driven over its debugging pipe with the standard library alone."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--remote-debugging-pipe", "about:blank"),
)


def find_browser() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; ``problems`` collects console errors, exceptions and refused loads."""

    def __init__(self, commands: IO[bytes], events: IO[bytes]) -> None:
        self._commands, self._events = commands, events
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            reply = self._read()
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                result: dict[str, Any] = reply["result"]
                return result

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._events.read(1)) != b"\0":
            assert byte, "the browser has gone"
            data += byte
        event: dict[str, Any] = json.loads(data)
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.problems.append(f"requested {url}")
        return event

    def open(self, path: Path, fragment: str = "") -> None:
        self._call("Page.navigate", url=path.resolve().as_uri() + fragment)
        while self.run("document.readyState") != "complete":
            pass

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def drop(self, data: bytes, name: str, onto: str = "drop") -> None:
        """Drop a file on the element with the id ``onto``, as a person does."""
        self.drop_all({name: data}, onto)

    def drop_all(self, files: dict[str, bytes], onto: str = "drop") -> None:
        """Drop several files, by their names, at once."""
        given = [[name, base64.b64encode(data).decode()] for name, data in files.items()]
        self.run(
            "(() => {"
            "const carried = new DataTransfer();"
            f"for (const [name, data] of {json.dumps(given)}) carried.items.add("
            "new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));"
            f"document.getElementById('{onto}').dispatchEvent("
            "new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true}));"
            "})()"
        )


@contextmanager
def open_browser(browser: str, folder: Path) -> Iterator[Page]:
    """Start a browser with its files in ``folder``, and end it."""
    there, back = folder / "commands", folder / "events"
    os.mkfifo(there)
    os.mkfifo(back)
    line = shlex.join([browser, f"--user-data-dir={folder / 'profile'}", *FLAGS])
    process = subprocess.Popen(
        ["sh", "-c", f"exec {line} 3<{shlex.quote(str(there))} 4>{shlex.quote(str(back))}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with there.open("wb") as commands, back.open("rb") as events:
            yield Page(commands, events)
    finally:
        process.kill()
        process.wait()
