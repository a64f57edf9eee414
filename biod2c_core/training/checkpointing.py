"""Checkpoints to resume from: there whole or not at all, and a SIGTERM that leaves one behind.

A checkpoint is written into ``checkpoints/.partial``, synced to the disk, sealed with a list of its
files, and only then renamed to ``checkpoint-STEP``. A resumed run takes the newest one that fits its
list and names those that it passes over.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from biod2c_core.atomic import put_in_place, write_json
from biod2c_core.errors import CheckpointError, TerminatedError

COMPLETE = "complete.json"  # written last: a checkpoint without it was cut off
PARTIAL = ".partial"


def publish(written: Path, place: Path) -> None:
    """Seal a folder with the sizes of its files, and put it, on the disk, into its place."""
    files = sorted(path for path in written.rglob("*") if path.is_file())
    write_json(
        written / COMPLETE,
        {path.relative_to(written).as_posix(): path.stat().st_size for path in files},
    )
    put_in_place(written, place)


def numbered_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, in order."""
    numbered = (
        (path.name.rpartition("-")[2], path) for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    )
    return sorted((int(number), path) for number, path in numbered if number.isdigit())


def last_complete_checkpoint(
    folder: Path, tell: Callable[[str], None] = lambda line: None
) -> Path | None:
    """The newest checkpoint of a run that was written to its end.

    Args:
        folder: The run's ``checkpoints``.
        tell: Given a line for each newer one that is damaged.
    """
    for _, path in reversed(numbered_checkpoints(folder)):
        damage = find_damage(path)
        if not damage:
            return path
        tell(f"{path} is passed over: {damage}")
    return None


def outdated_checkpoints(folder: Path, keep: int) -> list[Path]:
    """All but the newest checkpoints, and the best that each of these knows.

    Args:
        folder: The run's ``checkpoints``.
        keep: How many of the newest are kept.
    """
    numbered = numbered_checkpoints(folder)
    best = {_best_step(path) for _, path in numbered[-keep:]}
    return [path for number, path in numbered[:-keep] if number not in best]


def _best_step(checkpoint: Path) -> int | None:
    try:
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError, TypeError):  # damaged: it is passed over when a run goes on
        return None
    return state.best_global_step


def find_damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; empty if nothing is."""
    try:
        sizes = json.loads((checkpoint / COMPLETE).read_text("utf-8"))
        for name, size in sizes.items():
            found = (checkpoint / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes of {size}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return f"{COMPLETE} cannot be read ({error})"
    return ""


def storage_error(what: str, folder: Path, error: BaseException) -> CheckpointError:
    """The line for a write that failed, with the room that is left and what there is to go on from.

    Args:
        what: What was to be written.
        folder: The run's ``checkpoints``.
        error: What the write raised.
    """
    free = shutil.disk_usage(folder).free / 2**20 if folder.is_dir() else 0.0
    last = last_complete_checkpoint(folder)
    rest = f"{last.name} is whole" if last else "no checkpoint is there yet"
    return CheckpointError(
        f"cannot write {what} to {folder.parent} ({' '.join(str(error).split())[:200]}; "
        f"{free:,.0f} MiB free); {rest}",
        "Free some space, then go on with --resume.",
    )


def is_storage_failure(error: BaseException) -> bool:
    """Whether an exception raised while saving speaks of the disk (each library has its own)."""
    kinds = ("OSError", "SafetensorError")
    of_torch = ("PytorchStreamWriter", "unexpected pos", "Parent directory ")
    said = any(words in str(error) for words in of_torch)
    return isinstance(error, OSError) or type(error).__name__ in kinds or said


class Termination:
    """SIGTERM while training asks for a checkpoint and an end; before that it ends at once.

    A second SIGTERM ends at once in any case. Outside the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.requested = False
        self.training = False
        self._previous: Any = None
        self._process = os.getpid()

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # of a worker, whose parent ends it
            os._exit(128 + number)
        if self.requested or not self.training:
            raise TerminatedError("stopped by SIGTERM", "Go on with --resume.")
        self.requested = True


class StopOnRequest(TrainerCallback):
    """Saves and ends after the step in which a process was asked to stop.

    Args:
        termination: Whether this process was.
        device: Where processes tell each other.
    """

    def __init__(self, termination: Termination, device: torch.device) -> None:
        self.termination = termination
        self.device = device

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for both."""
        stop = self.termination.requested
        if args.world_size > 1:  # all must stop at the same step
            asked = torch.tensor(float(stop), device=self.device)
            dist.all_reduce(asked)
            stop = bool(asked > 0)  # a request that came meanwhile waits for the next step
        if stop:
            self.termination.requested = True
            control.should_save = control.should_training_stop = True
