"""The training bar: steps, time left, losses; plain lines where stderr is not a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from biod2c_cli import console


class TrainingProgress:
    """A :class:`biod2c_core.training.logs.run_log.Reporter` on stderr."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not console.stderr_is_terminal(),
        )
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self._total = 0
        self._done = 0
        self._steps = 0
        self._answering = False

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        if self._bar.disable:
            console.note(text)
        else:
            self._bar.console.print(
                console.visible(text), markup=False, highlight=False, soft_wrap=True
            )

    def encoding(self, total: int) -> None:
        """The trunk's features are about to be computed."""
        self._begin("encoding images", total, 0)

    def encoded(self, count: int) -> None:
        """More images are done."""
        self._advance(self._done + count, "encoding images")

    def start(self, total: int, done: int) -> None:
        """Training begins."""
        self._steps = total
        self._begin("training", total, done)

    def answering(self, total: int) -> None:
        """Validation questions are about to be answered."""
        self._answering = True
        self._begin("answering", total, 0)

    def answered(self, count: int) -> None:
        """More of them are done."""
        self._advance(self._done + count, "answering")

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """A step is done."""
        if self._answering:  # the bar is that of the questions
            self._answering = False
            self._begin("training", self._steps, done)
        losses = [key for key in metrics if key.startswith("loss_")]
        shown = (*losses, "eval_loss", "beta", "learning_rate", "tokens_per_s", "memory_gb")
        parts = [f"{key} {metrics[key]:.4g}" for key in shown if key in metrics]
        self._advance(done, " ".join(["training", *parts]))

    def _begin(self, description: str, total: int, done: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=total, completed=done)
        self._total = total
        self._done = done

    def _advance(self, done: int, description: str) -> None:
        assert self._task is not None
        self._done = done
        self._bar.update(self._task, completed=done, description=description)
        now = time.monotonic()
        due = now - self._last_line > console.LOG_EVERY
        if self._bar.disable and (due or done == self._total):
            self._last_line = now
            console.note(f"{done}/{self._total} {description}")
