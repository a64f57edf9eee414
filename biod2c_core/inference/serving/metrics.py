"""Counters of the server in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter

_HELP = {
    "biod2c_requests_total": "Answered requests by status.",
    "biod2c_batches_total": "Batches that the model has answered.",
    "biod2c_questions_total": "Questions that the model has answered, one an image.",
    "biod2c_images_encoded_total": "Images that the model has encoded.",
    "biod2c_encodings_reused_total": "Questions whose image was encoded already.",
    "biod2c_cancelled_total": "Requests whose client went away or whose time was up.",
    "biod2c_seconds_total": "Time from request to answer, of answered questions.",
    "biod2c_queue_length": "Questions that wait now, one an image.",
}


class Metrics:
    """Counts; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, amount: float = 1, label: str = "") -> None:
        """Add to a counter, with a label such as ``status="200"``."""
        with self._lock:
            self._counts[name, label] += amount  # type: ignore[assignment]

    def value(self, name: str, label: str = "") -> float:
        """What a counter holds."""
        with self._lock:
            return self._counts[name, label]

    def render(self, queue: int) -> str:
        """Everything, and the length of the queue."""
        with self._lock:
            counts = dict(self._counts)
        counts["biod2c_queue_length", ""] = queue
        lines = []
        for name, text in _HELP.items():
            kind = "gauge" if name == "biod2c_queue_length" else "counter"
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            own = sorted((label, value) for (key, label), value in counts.items() if key == name)
            for label, value in own or [("", 0)]:
                lines.append(f"{name}{{{label}}} {value:g}" if label else f"{name} {value:g}")
        return "\n".join(lines) + "\n"
