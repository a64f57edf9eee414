"""Worker processes: none outlives its parent, and one that is killed is one line with what to do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from biod2c_core.errors import BioD2CError, InputError

_MOST = 8  # processes that are started unasked


@contextmanager
def worker_pool(workers: int, task: str, remedy: str) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, gone at the end of the block; work that has not begun is given up.

    Args:
        workers: How many.
        task: What such a process does: ``decodes``.
        remedy: What to do when one dies.

    Raises:
        InputError: A process died, as it does when memory runs out.
    """
    # Spawned, not forked: a fork of a process with threads (torch) can hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise InputError(
            f"a process that {task} died, perhaps for lack of memory", remedy
        ) from error
    except KeyboardInterrupt:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # a task may take hours
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """Let a worker end when its parent is killed, where it would wait for work for ever.

    Ctrl-C, which reaches every process, is the parent's to handle.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spare_cores(busy: int, processes: int = 1) -> int:
    """How many workers have a core of their own beside each of some processes; at most eight.

    Args:
        busy: Cores that each process keeps busy itself.
        processes: That share this machine.
    """
    return min(_MOST, max(0, usable_cores() // max(1, processes) - busy))


def portable(error: BioD2CError) -> BioD2CError:
    """An error that can travel between processes; those with arguments of their own cannot."""
    plain = type(error).__init__ is BioD2CError.__init__
    return error if plain else InputError(error.problem, error.remedy)
