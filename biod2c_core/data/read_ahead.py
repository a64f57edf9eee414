"""What a loop needs next, made ready in worker processes while it computes: batches, pictures.

The processes are those of torch's ``DataLoader``, which passes tensors through shared memory. They are
spawned, touch no GPU, and end with the process that started them, however that ends. What is read does
not depend on their number.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, TypeVar, cast

from biod2c_core.errors import BioD2CError, InputError
from biod2c_core.workers import end_with_parent, portable

T = TypeVar("T")
R = TypeVar("R")
_HEEDED = {signal.SIGTERM}


@dataclass(frozen=True)
class Failure:
    """What a worker gives instead of a result: torch would turn its error into a traceback."""

    error: BioD2CError


class Guarded(Generic[T, R]):
    """A function whose errors of this project come back as a :class:`Failure`.

    Args:
        function: Called in a worker; picklable.
    """

    def __init__(self, function: Callable[[T], R]) -> None:
        self.function = function

    def __call__(self, given: T) -> R | Failure:
        """Call it."""
        try:
            return self.function(given)
        except BioD2CError as error:
            return Failure(portable(error))


def checked(result: R | Failure) -> R:
    """What a worker gave.

    Raises:
        BioD2CError: It failed.
    """
    if isinstance(result, Failure):
        raise result.error
    return result


def loader_options(workers: int) -> dict[str, Any]:
    """Arguments of a ``DataLoader`` with so many workers; 0 reads in this process."""
    if not workers:
        return {"num_workers": 0}
    # Spawned, not forked: a fork of a process with threads (torch, CUDA) can hang.
    return {
        "num_workers": workers,
        "multiprocessing_context": _SpawnContext(),
        "worker_init_fn": _begin,
        "prefetch_factor": 2,
    }


class _Process(SpawnProcess):
    """Starts with SIGTERM blocked, so in all its threads: libraries start some as they are imported."""

    def start(self) -> None:
        """Start it; the mask of a thread goes on to what it spawns."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _SpawnContext(SpawnContext):
    """That of :class:`_Process`, where a blocked signal can be waited for."""

    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        Process = _Process


def _begin(number: int) -> None:
    """Let a worker end with its parent, and by SIGTERM of its parent alone.

    Batch systems send SIGTERM to every process: a step that is being finished still needs its batches.
    """
    if hasattr(signal, "sigwaitinfo"):

        def heed() -> None:
            while signal.sigwaitinfo(_HEEDED).si_pid != os.getppid():
                pass
            os._exit(0)

        threading.Thread(target=heed, daemon=True).start()
    end_with_parent()


@contextmanager
def workers_may_die() -> Iterator[None]:
    """Within the block, a worker that dies is one line with what to do.

    Raises:
        InputError: One died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that reads the data died, perhaps for lack of memory or of shared memory"
            " (/dev/shm)",
            "Use fewer of them, then go on with the same command (train: --resume). A script of your own"
            " must do its work under if __name__ == '__main__'.",
        ) from error


class _Calls(Generic[T, R]):
    """The results of a function as a data set."""

    def __init__(self, function: Guarded[T, R], items: Sequence[T]) -> None:
        self._function = function
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> R | Failure:
        return self._function(self._items[index])


def read_ahead(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Call a function with each item, in order, a few items ahead of the caller.

    Args:
        function: Picklable; what it gives is passed on as it is, tensors through shared memory.
        items: Picklable.
        workers: Processes; 0 calls it in this one when its result is asked for.

    Raises:
        BioD2CError: Of the function.
        InputError: A process died.
    """
    workers = min(workers, len(items))
    if not workers:
        yield from map(function, items)
        return
    import torch
    from torch.utils.data import DataLoader

    calls = cast("Any", _Calls(Guarded(function), items))
    loader = DataLoader(
        calls,
        batch_size=None,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # torch's own numbers are left alone
        **loader_options(workers),
    )
    with workers_may_die():
        for result in loader:
            yield checked(result)


def _as_it_is(result: R) -> R:
    return result
