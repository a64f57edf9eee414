"""Chat templates of tokenizers, which are programs of strangers, rendered in a process with limits."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from biod2c_core.errors import CheckpointError

LONGEST_TEXT = 200_000  # characters of a rendered conversation
LONGEST_TIME = 10.0  # seconds of one rendering
MOST_MEMORY = 512 * 2**20  # bytes of address space of the process
_STARTING = 60.0  # seconds; a busy machine takes long to start Python
_SCRIPT = Path(__file__).with_name("worker.py")


def apply_chat_template(
    tokenizer: Any, messages: list[dict[str, str]], today: str | None = None, **options: Any
) -> str:
    """The text of a conversation, as ``tokenizer.apply_chat_template(..., tokenize=False)``.

    Args:
        tokenizer: Whose template and special tokens to use.
        messages: Of ``role`` and ``content``.
        today: The date that the template is told, YYYY-MM-DD; by default that of now.
        **options: Further variables of the template, such as ``add_generation_prompt``.

    Raises:
        CheckpointError: The template fails, or needs too much time, memory or text.
    """
    return render_chat(tokenizer.get_chat_template(), tokenizer, messages, today, **options)


def render_chat(
    template: str,
    tokenizer: Any,
    messages: list[dict[str, Any]],
    today: str | None = None,
    **options: Any,
) -> str:
    """The text of a conversation by a given template, such as that of a processor.

    Args:
        template: A template of jinja.
        tokenizer: Whose special tokens to use.
        messages: Of ``role`` and ``content``.
        today: The date that the template is told, YYYY-MM-DD; by default that of now.
        **options: Further variables of the template, such as ``add_generation_prompt``.

    Raises:
        CheckpointError: The template fails, or needs too much time, memory or text.
    """
    values: dict[str, Any] = {"tools": None, "documents": None, "add_generation_prompt": False}
    values |= {name: _as_text(value) for name, value in tokenizer.special_tokens_map.items()}
    return _WORKERS.render(template, values | options | {"messages": messages}, today)


def _as_text(value: Any) -> Any:
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


class _Worker:
    """One process; ended by the first rendering that takes too long."""

    def __init__(self) -> None:
        limits = [str(MOST_MEMORY), str(LONGEST_TEXT)]
        path = os.pathsep.join(place for place in sys.path if place)
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        )
        self.owner = os.getpid()
        self._answer(_STARTING)

    @property
    def runs(self) -> bool:
        """Whether it can be asked, by this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def render(self, template: str, values: dict[str, Any], today: str | None) -> str:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps([template, values, today]).encode() + b"\n")
            stdin.flush()
        except OSError:  # it has died between two questions
            raise _failed("its process has ended") from None
        answer = json.loads(self._answer(LONGEST_TIME))
        if "error" in answer:
            raise _failed(answer["error"])
        return str(answer["text"])

    def close(self) -> None:
        """End the process, if it is this one's child."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.communicate()

    def _answer(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self._process.communicate()
            raise _failed(f"it takes over {seconds:g} s" if late.is_set() else "its process ended")
        return line


class _Workers:
    """The worker of this process: started by the first template, and again after a fork or a kill."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def _forget(self) -> None:
        self._lock, self._worker = threading.Lock(), None

    def render(self, template: str, values: dict[str, Any], today: str | None) -> str:
        with self._lock:
            if self._worker is None or not self._worker.runs:
                self.close()
                self._worker = _Worker()
            return self._worker.render(template, values, today)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None


def _failed(reason: str) -> CheckpointError:
    return CheckpointError(
        f"the tokenizer's chat template cannot be used ({' '.join(reason.split())})",
        "Give the processor a prompt with {question} instead of 'chat'.",
    )


_WORKERS = _Workers()
