"""The Files and Batches half of the fake endpoint, in memory."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from biod2c_core.testing.scripted_completion import completion_body


class FakeBatches:
    """Takes uploads and batches.

    A batch stays ``in_progress`` until ``finish_all`` is called, or for some seconds.

    Args:
        reply: From a chat request to the text of its answer.
        seconds: After which a batch is completed when it is asked about; None waits for
            ``finish_all``.
    """

    def __init__(
        self, reply: Callable[[dict[str, Any]], str], seconds: float | None = None
    ) -> None:
        self._reply = reply
        self._seconds = seconds
        self._created: dict[str, float] = {}
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Answer one request.

        Returns:
            HTTP status and the body: a JSON value, or bytes of a file.
        """
        parts = [part for part in path.split("/") if part not in ("", "v1")]
        if self._seconds is not None:
            due = time.monotonic() - self._seconds
            self._finish({name for name, made in self._created.items() if made <= due})
        if method == "POST" and parts == ["files"]:
            return 200, self._upload(body)
        if method == "POST" and parts == ["batches"]:
            request = json.loads(body)
            if request["input_file_id"] not in self.files:
                return _missing(request["input_file_id"])
            return 200, self._create(request)
        if method == "GET" and parts == ["batches"]:
            newest_first = list(reversed(self.batches.values()))
            return 200, {"object": "list", "data": newest_first, "has_more": False}
        if method == "GET" and len(parts) == 2 and parts[0] == "batches":
            batch = self.batches.get(parts[1])
            return (200, batch) if batch else _missing(path)
        if method == "GET" and len(parts) == 3 and parts[0] == "files":
            content = self.files.get(parts[1])
            return (200, content) if content is not None else _missing(path)
        return _missing(path)

    def finish_all(self, refuse: frozenset[str] = frozenset(), expire: bool = False) -> None:
        """Complete what is in progress.

        Args:
            refuse: ``custom_id`` of requests that end in the error file.
            expire: Leave the second half of each batch unanswered, as an expired batch does.
        """
        self._finish(set(self.batches), refuse, expire)

    def _finish(
        self, names: set[str], refuse: frozenset[str] = frozenset(), expire: bool = False
    ) -> None:
        for name, batch in self.batches.items():
            if name not in names or batch["status"] != "in_progress":
                continue
            lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            answered = lines[: len(lines) // 2] if expire else lines
            good = [self._result(line) for line in answered if line["custom_id"] not in refuse]
            bad = [_error(line["custom_id"]) for line in answered if line["custom_id"] in refuse]
            batch["status"] = "expired" if expire else "completed"
            batch["output_file_id"] = self._store(_jsonl(good)) if good else None
            batch["error_file_id"] = self._store(_jsonl(bad)) if bad else None
            batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}

    def _upload(self, body: bytes) -> dict[str, Any]:
        boundary = body[: body.index(b"\r\n")]
        parts = [part for part in body.split(boundary) if b'name="file"' in part]
        content = parts[0].split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        name = self._store(content)
        return {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": "input.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches) + 1}"
        self._created[name] = time.monotonic()
        total = len(self.files[request["input_file_id"]].splitlines())
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": request["endpoint"],
            "completion_window": request["completion_window"],
            "input_file_id": request["input_file_id"],
            "metadata": request.get("metadata"),
            "created_at": int(time.time()),
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": {"total": total, "completed": 0, "failed": 0},
        }
        return self.batches[name]

    def _store(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _result(self, line: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": self._reply(line["body"]), "refusal": None}
        body = completion_body(line["body"], message)
        response = {"status_code": 200, "request_id": line["custom_id"], "body": body}
        return {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}


def _error(custom_id: str) -> dict[str, Any]:
    body = {"error": {"message": "scripted 400", "type": "400", "code": None}}
    response = {"status_code": 400, "request_id": custom_id, "body": body}
    return {"id": "r", "custom_id": custom_id, "response": response, "error": None}


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _missing(path: str) -> tuple[int, Any]:
    name = re.sub(r"[^\w/.-]", "", path)
    return 404, {"error": {"message": f"no such thing: {name}", "type": "404", "code": None}}
