"""Files and folders that one process holds alone; the system lets go of them however it ends."""

from __future__ import annotations

import errno
from typing import Protocol

try:
    import fcntl
except ImportError:  # Windows: two processes are not told apart
    fcntl = None  # type: ignore[assignment]

_HELD = (errno.EAGAIN, errno.EACCES)  # what a lock that another holds is refused with


class _Open(Protocol):
    def fileno(self) -> int:
        """The descriptor."""


def hold(opened: _Open | int, wait: bool = False) -> bool:
    """Hold an open file or folder until it is closed.

    Args:
        opened: The file, or a descriptor.
        wait: Wait for another process that holds it.

    Returns:
        False where another process holds it. True also where there are no locks: on Windows, and on
        file systems without them, as some clusters have.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True
