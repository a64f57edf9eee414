"""A page on this machine that shows images one by one and writes the label that a key stands for."""

from __future__ import annotations

import io
import json
import os
import random
import secrets
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from biod2c_core.curation.filter_images.labels import LABELS, read_label_names, write_label_names
from biod2c_core.curation.filter_images.sources import WHOLE_FILE, Item, read_image
from biod2c_core.errors import ImageError, InputError
from biod2c_core.pages import render_page

ADDRESS = "127.0.0.1"
_LONGEST_SIDE = 1400
_MOST_BYTES = 4096  # of a request's body


def choose(items: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """A random sample in random order, so that labels given so far always stand for the whole.

    Raises:
        InputError: Images lie inside tar shards, where ``fit`` cannot find them.
    """
    if any(item.length != WHOLE_FILE for item in items):
        raise InputError("images inside tar shards cannot be labelled", "Unpack the shards first.")
    order = list(items)
    random.Random(seed).shuffle(order)
    return order[:count]


class LabelSession:
    """The images to label and the labels given, on disk after every key.

    Args:
        items: Images in the order of showing.
        path: The CSV; image names in it are relative to its folder. Existing labels are kept.

    Raises:
        InputError: The CSV cannot be read.
        RecordError: It holds other things than labels.
    """

    def __init__(self, items: Sequence[Item], path: Path) -> None:
        self.path = path
        self.items = [item for item in items if not item.problem]
        base = path.absolute().parent
        self.names = [os.path.relpath(item.path, base) for item in self.items]
        self.labels = read_label_names(path)
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """How many of the images have a label."""
        return sum(name in self.labels for name in self.names)

    def give(self, index: int, label: str) -> None:
        """Label an image, or change its label.

        Raises:
            InputError: There is no such image or label.
        """
        if label not in LABELS or not 0 <= index < len(self.items):
            raise InputError(f"no image {index} or no label {label!r}")
        with self._lock:
            self.labels[self.names[index]] = label
            write_label_names(self.path, self.labels.items())

    def state(self, index: int | None = None) -> dict[str, Any]:
        """What the page shows: an image by index, or the first without a label."""
        unlabelled = (i for i, name in enumerate(self.names) if name not in self.labels)
        if index is None:
            index = next(unlabelled, None)
        name = None if index is None else self.names[index]
        return {
            "index": index,
            "name": name,
            "label": self.labels.get(name) if name else None,
            "done": self.done,
            "total": len(self.items),
        }

    def jpeg(self, index: int) -> bytes:
        """An image as the browser can show it, whatever its format.

        Raises:
            ImageError: It cannot be read.
        """
        picture = read_image(self.items[index])
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=90)
        return data.getvalue()


class LabelServer(ThreadingHTTPServer):
    """Serves one session under an address that other pages and users cannot guess.

    Args:
        session: What to show.
        port: On 127.0.0.1; 0 takes a free one.

    Raises:
        InputError: The port is taken.
    """

    daemon_threads = True

    def __init__(self, session: LabelSession, port: int = 0) -> None:
        self.session = session
        self.page = render_page(
            "image-filter/label", "img-src 'self'; connect-src 'self'", labels=LABELS
        )
        self.secret = secrets.token_urlsafe(12)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"cannot listen on port {port}: {error}", "Choose another.") from error

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://{ADDRESS}:{self.server_address[1]}/{self.secret}/"


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer

    def do_GET(self) -> None:
        """The page, the state of an image, or its pixels."""
        match self._route():
            case [""]:
                self._send(self.server.page.html.encode(), "text/html; charset=utf-8")
            case ["state"]:
                self._send_json(self.server.session.state())
            case ["state", number] if self._exists(number):
                self._send_json(self.server.session.state(int(number)))
            case ["image", number] if self._exists(number):
                self._send_image(int(number))
            case _:
                self._fail(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        """Take a label."""
        if self._route() != ["label"]:
            return self._fail(HTTPStatus.NOT_FOUND, "no such page")
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 < length <= _MOST_BYTES:
                raise ValueError(f"{length} bytes")
            given = json.loads(self.rfile.read(length))
            self.server.session.give(given["index"], given["label"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return self._fail(HTTPStatus.BAD_REQUEST, f"not a label: {error}")
        return self._send_json(self.server.session.state())

    def _route(self) -> list[str] | None:
        """The parts of the path after the secret; None for strangers.

        A page elsewhere could let its own name point here; its requests carry that name as Host.
        """
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
            return None
        parts = self.path.split("/")
        if len(parts) < 3 or not secrets.compare_digest(
            parts[1].encode(), self.server.secret.encode()
        ):
            return None
        return parts[2:]

    def _exists(self, number: str) -> bool:
        plain = number.isascii() and number.isdigit() and len(number) < 9
        return plain and int(number) < len(self.server.session.items)

    def _send_image(self, index: int) -> None:
        try:
            self._send(self.server.session.jpeg(index), "image/jpeg")
        except ImageError as error:
            self._fail(HTTPStatus.UNPROCESSABLE_ENTITY, error.problem)

    def _send_json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), "application/json")

    def _fail(self, status: HTTPStatus, reason: str) -> None:
        self._send(reason.encode("utf-8", "replace"), "text/plain; charset=utf-8", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.page.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing; the page shows what happens."""
