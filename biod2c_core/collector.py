"""Python's garbage collector, and the libraries that it need not search."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imports_for_good() -> Iterator[None]:
    """Around what imports torch and transformers first, in a process that needs them to its end.

    They make more than half a million objects and drop hardly any. Every few hundred of them the
    collector would search all others, then again and again as the process runs, and twice as it ends: a
    fourth of the processor time of one question. So it rests here, and never looks at them afterwards.
    """
    known, enabled = "transformers" in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not known and "transformers" in sys.modules:
            gc.freeze()  # everything that there is, so once: what a caller drops later must go
        if enabled:
            gc.enable()
