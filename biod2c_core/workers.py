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

from biod2c_core.errors import InputError


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
