"""Run many calls at once, and stop without losing what was already paid for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from biod2c_core.errors import TerminatedError

T = TypeVar("T")


async def run_all(
    items: Iterable[T],
    work: Callable[[T], Awaitable[None]],
    workers: int,
    grace: float = 90.0,
) -> None:
    """Do ``work`` on every item, at most ``workers`` at once.

    The first error that ``work`` lets through, Ctrl-C or SIGTERM starts no new item; what is in
    flight gets ``grace`` seconds to finish (a second Ctrl-C ends that), and then the error is raised.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
        TerminatedError: After SIGTERM.
    """
    source = iter(items)
    errors: list[BaseException] = []
    stopped = asyncio.Event()

    def stop(error: BaseException) -> None:
        errors.append(error)
        stopped.set()

    async def worker() -> None:
        try:
            for item in source:
                if stopped.is_set():
                    return
                await work(item)
        except Exception as error:
            stop(error)

    tasks = [asyncio.create_task(worker()) for _ in range(max(1, workers))]
    stopping = asyncio.create_task(stopped.wait())
    everything: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
    with _signals(stop):
        await asyncio.wait({everything, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            await asyncio.wait({everything}, timeout=grace)
            for task in tasks:
                task.cancel()
        await everything
    stopping.cancel()
    if errors:
        raise errors[0]


@contextmanager
def _signals(stop: Callable[[BaseException], None]) -> Iterator[None]:
    """Turn the first Ctrl-C and SIGTERM into a soft stop; a second Ctrl-C interrupts as usual.

    Afterwards SIGTERM does what it did before: the loop would leave its default, which cleans nothing.
    """
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL  # None: not set by Python

    def interrupted() -> None:
        stop(KeyboardInterrupt())
        loop.remove_signal_handler(signal.SIGINT)

    def terminated() -> None:
        stop(TerminatedError("stopped by SIGTERM; what was answered is saved"))

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, terminated)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
