"""What a run says while it goes on: the log file, the reporter's progress, the rates.

``log.jsonl`` holds a line every ``log_every`` steps and forgets what a resumed run does again.
"""

from __future__ import annotations

import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from biod2c_core.append_log import AppendLog, read_rows
from biod2c_core.training.run_history import check_kept

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

RATES = (
    "tokens_per_s",
    "memory_gb",
)  # of this machine and moment: not part of what resumes exactly


class Reporter(Protocol):
    """Where progress goes; the command line gives one that draws a bar."""

    def note(self, text: str) -> None:
        """A line for the person."""

    def encoding(self, total: int) -> None:
        """The trunk's features of so many images are about to be computed or found."""

    def encoded(self, count: int) -> None:
        """So many more images are done."""

    def start(self, total: int, done: int) -> None:
        """Training begins: optimizer steps in all, and those already done."""

    def answering(self, total: int) -> None:
        """So many validation questions are about to be answered."""

    def answered(self, count: int) -> None:
        """So many more of them are done."""

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """A step has been done; ``metrics`` holds the latest log line."""


class SilentReporter:
    """The reporter of every process but the first."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def encoding(self, total: int) -> None:
        """Say nothing."""

    def encoded(self, count: int) -> None:
        """Say nothing."""

    def start(self, total: int, done: int) -> None:
        """Say nothing."""

    def answering(self, total: int) -> None:
        """Say nothing."""

    def answered(self, count: int) -> None:
        """Say nothing."""

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """Say nothing."""


class RunLog(TrainerCallback):
    """Writes the log file and tells the reporter; in the first process only.

    Args:
        reporter: Told about progress.
        log_file: Gets a line of JSON for each log entry.
    """

    def __init__(self, reporter: Reporter, log_file: Path) -> None:
        self.reporter = reporter
        self.log_file = log_file
        self.latest: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget the lines of steps that will be done again."""
        if not state.is_world_process_zero:
            return
        if self.log_file.exists():
            with AppendLog(self.log_file) as log:
                done = takewhile(lambda row: row[1]["step"] <= state.global_step, log.rows())
                log.keep(sum(1 for _ in done))
        self.reporter.start(state.max_steps, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Tell that a step is done."""
        if state.is_world_process_zero:
            self.reporter.step(state.global_step, self.latest)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append a line.

        Raises:
            InputError: Somebody has removed the run folder.
        """
        if not state.is_world_process_zero:
            return
        check_kept(self.log_file.parent)
        row = {"step": state.global_step, **(logs or {})}
        self.latest = {key: value for key, value in row.items() if isinstance(value, float)}
        with AppendLog(self.log_file) as log:
            log.append([row])


def read_log(log_file: Path) -> list[dict[str, Any]]:
    """The rows of a log; a line that a kill cut off is left out."""
    return [row for _, row in read_rows(log_file)]


class Rates:
    """Tokens a second and memory since the last log line."""

    def __init__(self) -> None:
        self._tokens: int | Tensor = 0
        self._since = time.monotonic()

    def count(self, tokens: Tensor) -> None:
        """So many more positions, a scalar, held a real token; it is read when it is asked for."""
        self._tokens = self._tokens + tokens

    def take(self) -> dict[str, float]:
        """``tokens_per_s`` of this process, and the most memory it has held, in GiB."""
        counted, self._tokens = int(self._tokens), 0  # waits for the device
        now = time.monotonic()
        rate, self._since = counted / max(now - self._since, 1e-9), now
        memory = {"memory_gb": round(peak_memory() / 2**30, 3)}
        return {"tokens_per_s": round(rate, 1), **memory} if counted else memory


def peak_memory() -> int:
    """Most bytes that this process has held: on the GPU if there is one, else in all."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
